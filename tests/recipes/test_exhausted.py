"""Memory that runs out in a training: who is killed for it, who is refused more, and how the next start goes
on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import turnsmith
from turnsmith.cli.main import call
from turnsmith.errors import TrainingError
from turnsmith.testing import conversations, directory, jsonl
from turnsmith.train import checkpoint
from turnsmith.train.exhausted import exhausted

# Wants memory in its third step, as long as a file says so. The guard kills as the kernel does where memory
# is short: without a word, at a bound on what the process holds.
HUNGRY = '''
import os, signal, threading, time
from pathlib import Path
import psutil, torch
from turnsmith.objectives.likelihood import sft
from turnsmith.registry import objective
from turnsmith.types import Loss, Scores

steps = 0

def guard(most):
    while psutil.Process().memory_info().rss < most:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

@objective("hungry", per="token", source="mine")
def hungry(s: Scores) -> Loss:
    """A likelihood that wants memory."""
    global steps
    steps += 1
    if steps == 3 and Path("killed").exists():
        held, most = [], psutil.Process().memory_info().rss + 2**28
        threading.Thread(target=guard, args=(most,), daemon=True).start()
        while True:
            held.append(torch.ones(2**20))
    if steps == 3 and Path("refused").exists():
        torch.empty(2**50)
    return sft(s)
'''
RECIPE = {
    "title": "Mine",
    "base": "./student",
    "forgetting": False,
    "steps": [
        {"data": {"name": "train", "read": "chats.jsonl"}},
        {
            "train": {
                "name": "tuned",
                "data": "train",
                "objective": "hungry",
                "trainable": "full",
                "fit": {"steps": 4, "batch": 2, "dtype": "float32", "checkpoint": 2, "length": 128},
            }
        },
    ],
}
OOM = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has"
CPU = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a recipe, its objective, chats and a model; a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    Path("mine.py").write_text(HUNGRY)
    Path("mine.yaml").write_text(json.dumps(RECIPE))
    jsonl(tmp_path / "chats.jsonl", conversations(8))
    directory(tmp_path / "student")
    return tmp_path


def run(to):
    """The weights that a run in this process ends with."""
    assert call(["run", "mine.yaml", "--use", "mine.py", "--to", to]) == 0
    (made,) = Path(os.environ["TURNSMITH_HOME"]).rglob("model/model.safetensors")
    return load_file(made)


def checkpoints(here):
    (found,) = {one.parent for one in (here / "home").rglob("step-*")}
    return found


def test_a_run_that_was_killed_for_memory_says_so_and_goes_on_from_its_last_checkpoint(
    here, monkeypatch, capfd
):
    Path("killed").touch()
    command = [sys.executable, "-m", "turnsmith", "run", "mine.yaml", "--use", "mine.py", "--to", "run"]
    done = subprocess.run(command, env=os.environ, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert checkpoint.newest(checkpoints(here)) == 2
    Path("killed").unlink()
    resumed = run("run")
    told = "".join(capfd.readouterr())
    assert "the last attempt ended without a word after step 2, perhaps for want of memory: it had" in told
    assert "; going on from step 2" in told
    monkeypatch.setenv("TURNSMITH_HOME", str(here / "another"))
    whole = run("whole")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_run_that_is_refused_memory_says_what_would_save_it_and_keeps_its_last_checkpoint(here, capfd):
    Path("refused").touch()
    with pytest.raises(TrainingError) as refused:
        turnsmith.run("mine.yaml", use=["mine.py"], to="run")
    said = str(refused.value)
    assert said.startswith("train tuned: memory ran out (")
    assert "allocate" in said.partition(")")[0]
    for way in ("fit.gradient_checkpointing: true", "fit.row: ", "fit.length: ", "trainable: lora"):
        assert way in said
    assert said.endswith("Step 2 is kept, and with more memory the same command goes on from there")
    assert checkpoint.newest(checkpoints(here)) == 2
    Path("refused").unlink()
    run("run")
    assert "without a word" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(OOM), RuntimeError(CPU), MemoryError()])
def test_before_the_first_step_it_names_what_is_loaded(tmp_path, error):
    with pytest.raises(TrainingError) as raised, exhausted(tmp_path, "tuned"):
        raise error
    said = str(raised.value)
    first = str(error).partition("\n")[0] or "MemoryError"
    assert said.startswith(f"train tuned: memory ran out ({first}). What would save: a smaller model")
    assert said.endswith("No checkpoint was written yet")


def test_other_errors_are_left_as_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="another"), exhausted(tmp_path, "tuned"):
        raise RuntimeError("another")
