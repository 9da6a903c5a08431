"""Heads that an objective declares are saved with what a step made, and a step that starts there goes on."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import turnsmith
from turnsmith.models.heads import FILE
from turnsmith.testing import conversations, directory, jsonl

MINE = '''
from turnsmith.registry import objective
from turnsmith.types import Loss, Scores

@objective("valued", per="token", heads={"value": 1}, source="mine")
def valued(s: Scores) -> Loss:
    """A value fitted to one."""
    return Loss(-s.logprobs + (s.heads["value"] - 1) ** 2)

@objective("plain", per="token", needs=("entropy",), source="mine")
def plain(s: Scores) -> Loss:
    """Likelihood with an entropy bonus."""
    return Loss(-s.logprobs - 0.01 * s.reduced["entropy"])
'''


def train(name, objective, steps=2, **more):
    fit = {"steps": steps, "batch": 2, "length": 128, "dtype": "float32", "lr": 1e-2}
    step = {"name": name, "data": "train", "objective": objective, "trainable": {"lora": {"rank": 2}}}
    return {"train": {**step, "fit": fit, **more}}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The records of a step with a head, one that goes on from it, one that starts there without a head."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    Path("mine.py").write_text(MINE)
    jsonl(tmp_path / "chats.jsonl", conversations(8))
    base = directory(tmp_path / "model")
    steps = [
        {"data": {"name": "train", "read": "chats.jsonl"}},
        train("first", "valued"),
        train("second", "valued", steps=1, start="first"),
        train("third", "plain", start="first"),
    ]
    plain = {"title": "Mine", "base": str(base), "forgetting": False, "steps": steps}
    (found,) = turnsmith.run(plain, name="mine", use=["mine.py"])
    return found


def head(record):
    return Path(record["path"]) / "model" / FILE


def test_a_step_goes_on_with_the_heads_of_its_start_and_names_those_it_leaves(made):
    _, first, second, third = made["steps"]
    before, after = load_file(head(first)), load_file(head(second))
    assert before.keys() == {"value.weight", "value.bias"}
    moved = (after["value.weight"] - before["value.weight"]).abs().max()
    assert 0 < moved < 0.02  # one step of 1e-2 from where the first ended; new weights are up to 0.18 away
    assert not torch.equal(after["value.bias"], before["value.bias"])
    assert not head(third).exists()
    note = "heads of the start that this objective does not take are left behind: value"
    assert note in made["warnings"]
