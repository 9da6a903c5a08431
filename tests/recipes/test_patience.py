"""A training that ends before its time: what is recorded of it, and that without patience nothing changes."""

import turnsmith
from turnsmith.recipes.run import _decisive
from turnsmith.testing import conversations, directory, jsonl
from turnsmith.train.options import Fit


def test_a_run_says_that_it_ended_before_its_time_and_whose_state_is_kept(tmp_path, monkeypatch):
    """At a rate of 0 nothing gets better than it was before the first step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    jsonl(tmp_path / "chats.jsonl", conversations(6))
    fit = {"steps": 6, "batch": 2, "length": 128, "dtype": "float32", "lr": 0.0, "evaluate": 1, "patience": 2}
    train = {
        "name": "tuned",
        "data": "chats",
        "validate_on": "chats",
        "trainable": {"lora": {"rank": 2}},
        "fit": fit,
    }
    steps = [{"data": {"name": "chats", "read": "chats.jsonl"}}, {"train": train}]
    base = str(directory(tmp_path / "model"))
    (found,) = turnsmith.run({"title": "Mine", "base": base, "forgetting": False, "steps": steps})
    made = found["steps"][1]
    assert (made["steps"], made["asked"], made["best_step"]) == (2, 6, 0)
    (said,) = found["warnings"]
    assert said.startswith("train tuned: ended after 2 of 6 steps: 2 evaluations in a row were no better")
    assert said.endswith("than that after step 0, whose state is kept")


def test_what_is_made_without_patience_is_what_was_made_before_there_was_any():
    assert "patience" not in _decisive(Fit(steps=1))
    assert _decisive(Fit(steps=1, evaluate=1, patience=2))["patience"] == 2
    assert _decisive(Fit(steps=1))["weight_decay"] == 0.0  # other options count at 0 as well
