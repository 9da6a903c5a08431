"""One process or two give the same run; arithmetic is chosen once; lone processes are refused."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from turnsmith.data.batch import pack
from turnsmith.errors import UsageError
from turnsmith.models.score import to
from turnsmith.testing import examples
from turnsmith.train.place import Place, arithmetic, faster_dtype, same_threads

# One run of each method, one with several pairs in each packed row, and one that a single process is asked
# to stop. Windows have two to four micro-batches: with three, the second process is idle in the last round.
WORK = """
import functools, os, signal, sys
from dataclasses import replace
from pathlib import Path
import torch
from turnsmith.data.stream import Stream
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.objectives.pairs import dpo
from turnsmith import testing
from turnsmith.errors import TrainingError
from turnsmith.testing import Figures, examples, model
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.train.stop import Interrupted
from turnsmith.trainables.install import install, learning
from turnsmith.trainables.lora import Lora
from turnsmith.types import Loss

out, place = Path(sys.argv[1]), Place(device="cpu")

def reference(batch):
    return -2.0 - batch.targets[batch.entry] % 3

class Stopped(Figures):
    def step(self, values):
        super().step(values)
        if values["step"] == 2 and place.rank == place.accelerator.num_processes - 1:
            os.kill(os.getpid(), signal.SIGINT)

def ranked(s):
    values = (s.heads["reward"] - 1) ** 2 + s.heads["kinds"].square().sum(1)
    return Loss(values + s.along("text", s.heads["value"] ** 2))

def weighed(s):
    return Loss(-s.sums("text") * s.values["worth"])

def given(parts):
    # of the third, which the third step sees, what it is worth is no number
    made = examples(7, parts=parts)
    return [replace(x, values={"worth": float("nan" if at == 2 else 1)}) for at, x in enumerate(made)]

def run(name, method, parts, batch, recorder, live=None, row=1, nonfinite="stop"):
    whole = model()
    forest.attach(whole)
    scoring = Scoring(install(whole, Lora, {"rank": 4}, seed=0), heads=method.heads)
    options = Fit(steps=4, batch=batch, lr=1e-3, row=row, nonfinite=nonfinite)
    stream = Stream(given(parts), batch=batch, order="shuffled", seed=0)
    try:
        fit(scoring, stream, method, options, directory=out / name, recorder=recorder, place=place, seed=0,
            reference=live)
    except Interrupted:
        pass
    except TrainingError as error:
        (out / f"{name}-{place.rank}.txt").write_text(str(error))
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in recorder.rows]
    weights = torch.cat([p.detach().flatten() for p in learning(scoring).values()])
    torch.save({"rows": rows, "weights": weights}, out / f"{name}-{place.rank}.pt")

pairs = ("chosen", "rejected")
run("tokens", Method(sft, "token", linear=True), ("text",), 3, Figures())
run("pairs", Method(functools.partial(dpo, beta=0.5), "example", True), pairs, 3, Figures(), reference)
run("rows", Method(functools.partial(dpo, beta=0.5), "example", True), pairs, 5, Figures(), reference, 80)
run("even", Method(sft, "token", linear=True), ("text",), 4, Figures())
sizes = {"reward": ("last", 1), "kinds": ("mean", 2), "value": 1}
run("heads", Method(ranked, "sequence", heads=sizes), ("text",), 3, Figures())
teacher = model(seed=1)
forest.attach(teacher)
distil = replace(testing.method("distil"), others={"teacher": Scoring(teacher)})
run("taught", distil, ("text",), 3, Figures())
run("skipped", Method(weighed, "example"), ("text",), 2, Figures(), nonfinite="skip")
run("refused", Method(weighed, "example"), ("text",), 2, Figures())
run("stopped", Method(sft, "token", linear=True), ("text",), 2, Stopped())
"""


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def start(directory: Path, world: int) -> None:
    """The work in so many processes, as torchrun starts them."""
    shared = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    ranks = [
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
        for rank in range(world)
    ]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(directory)], env=shared | rank, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in ranks
    ]  # fmt: skip
    try:
        for process in started:
            output, _ = process.communicate(timeout=240)
            assert process.returncode == 0, output
    finally:
        for process in started:
            process.kill()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("processes")
    for name in ("one", "two"):
        (directory / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["work", str(directory / "one")])
        exec(compile(WORK, "work", "exec"), {})
    start(directory / "two", 2)
    return directory


@pytest.mark.parametrize("name", ["tokens", "pairs", "rows", "even", "heads", "taught", "skipped", "refused"])
def test_two_processes_give_the_losses_and_the_weights_of_one(runs, name):
    alone = torch.load(runs / "one" / f"{name}-0.pt")
    for rank in (0, 1):
        found = torch.load(runs / "two" / f"{name}-{rank}.pt")
        for one, other in zip(alone["rows"], found["rows"], strict=True):
            assert other == pytest.approx(one, abs=1e-5, rel=1e-5, nan_ok=True)
            assert other["loss"] == pytest.approx(one["loss"], abs=1e-6, rel=1e-6, nan_ok=True)
        torch.testing.assert_close(found["weights"], alone["weights"], rtol=0, atol=1e-6)


def test_when_one_process_is_asked_to_stop_all_stop_at_the_same_step_with_one_checkpoint(runs):
    rows = [torch.load(runs / "two" / f"stopped-{rank}.pt")["rows"] for rank in (0, 1)]
    assert [len(each) for each in rows] == [2, 2]
    assert [path.name for path in (runs / "two" / "stopped").iterdir()] == ["step-0000002"]


def test_when_a_step_is_refused_all_processes_name_the_same_example_and_keep_one_state(runs):
    said = [(runs / "two" / f"refused-{rank}.txt").read_text() for rank in (0, 1)]
    assert said[0] == said[1] == (runs / "one" / "refused-0.txt").read_text()
    (step,) = {len(torch.load(runs / "two" / f"refused-{rank}.pt")["rows"]) for rank in (0, 1)}
    assert [path.name for path in (runs / "two" / "refused").iterdir()] == [f"step-{step:07d}"]
    skipped = torch.load(runs / "two" / "skipped-1.pt")["rows"]
    assert [row["step"] for row in skipped if "skipped" in row] == [step + 1]


def test_processes_that_were_started_but_did_not_join_are_refused(monkeypatch):
    Place(device="cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="WORLD_SIZE says 2 processes, 1 joined: start with torchrun"):
        Place(device="cpu")


def test_one_process_gets_every_micro_batch_and_only_the_last_is_marked_so():
    batches = [pack([each]) for each in examples(3)]
    dealt = list(Place(device="cpu").mine(batches))
    assert [batch for batch, _, _ in dealt] == batches
    assert [(factor, last) for _, factor, last in dealt] == [(1.0, False), (1.0, False), (1.0, True)]


def test_a_batch_goes_to_another_device_whole():
    batch = pack(examples(2, parts=("chosen", "rejected")))
    moved = to(batch, torch.device("meta"))
    tensors = ("inputs", "positions", "source", "targets", "entry", "weights", "turns", "path", "reads")
    assert {getattr(moved, name).device.type for name in tensors} == {"meta"}
    assert moved.forest == batch.forest
    assert moved.paths == batch.paths


def test_the_arithmetic_asked_for_is_taken_without_measuring(tmp_path):
    assert arithmetic("bfloat16", tmp_path / "kept.json") == ("bfloat16", {})
    assert not (tmp_path / "kept.json").exists()


def test_what_was_measured_once_stays_chosen(tmp_path):
    file = tmp_path / "kept.json"
    chosen, seconds = arithmetic("auto", file)
    assert chosen == min(seconds, key=seconds.__getitem__)
    other = "float32" if chosen == "bfloat16" else "bfloat16"
    file.write_text(json.dumps({"dtype": other, "seconds": seconds}))
    assert arithmetic("auto", file) == (other, seconds)


@pytest.fixture
def threads():
    """As many as before, whatever the test chose."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_who_goes_on_computes_on_as_many_threads_as_when_it_began(tmp_path, threads):
    torch.set_num_threads(2)
    assert same_threads(tmp_path / "threads.json") is None
    assert same_threads(tmp_path / "threads.json") is None
    torch.set_num_threads(1)
    said = same_threads(tmp_path / "threads.json")
    assert said == "computing on 2 threads, as it began, not on 1: the last bits depend on it"
    assert torch.get_num_threads() == 2


def test_the_faster_dtype_is_the_one_whose_time_is_shorter():
    dtype, seconds = faster_dtype(repeats=1)
    assert set(seconds) == {"float32", "bfloat16"}
    assert seconds[dtype] == min(seconds.values())
