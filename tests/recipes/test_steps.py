"""The verbs as functions: what is refused, and what can be gone on with."""

import json
from pathlib import Path

import pytest

from turnsmith.errors import UsageError
from turnsmith.recipes.steps import Steps
from turnsmith.testing import conversations, directory, jsonl

FIT = {"steps": 1, "batch": 2, "length": 128, "dtype": "float32"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return directory(tmp_path_factory.mktemp("model"))


@pytest.fixture
def go(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    jsonl(tmp_path / "chats.jsonl", conversations(6))
    return Steps(tiny, name="mine", forgetting=False)


def test_a_misspelt_key_is_named_with_the_right_one(go):
    with pytest.raises(UsageError, match=r"unknown key steps.0.data.raed; did you mean read\?"):
        go.data("chats", raed="chats.jsonl")


def test_a_step_that_failed_may_be_tried_again(go):
    with pytest.raises(UsageError, match=r"no data at 'chat.jsonl'"):
        go.data("chats", read="chat.jsonl")
    go.data("chats", read="chats.jsonl")
    assert [step["name"] for step in go.finish()["steps"]] == ["chats"]


def test_a_claim_that_nothing_measures_is_refused_and_forgotten(go, tmp_path):
    other = str(directory(tmp_path / "other", seed=1))
    go.data("chats", read="chats.jsonl")
    with pytest.raises(UsageError, match="is measured by no evaluate step"):
        go.claim("heldout", quantity="loss", of=other, direction="lower")
    go.evaluate(other, suite=[{"heldout": {"on": "chats"}}])
    with pytest.raises(UsageError, match=r"has no figure 'los'; did you mean 'loss'\?"):
        go.claim("heldout", quantity="los", of=other, direction="lower")
    assert go.finish()["claim"] == []


def test_examples_are_those_that_the_data_step_made(go):
    go.data("chats", read="chats.jsonl", stages=[{"head": {"count": 2}}])
    assert go.examples("chats") == conversations(6)[:2]
    with pytest.raises(UsageError, match=r"no data is called 'chat'; did you mean 'chats'\?"):
        go.examples("chat")


def test_a_block_that_fails_says_so_in_what_it_leaves(go, tmp_path):
    go.data("chats", read="chats.jsonl")
    go.train("tuned", data="chats", trainable={"lora": {"rank": 2}}, fit=FIT)
    assert Path(go.model("tuned"), "adapter_config.json").is_file()
    with pytest.raises(ZeroDivisionError), go:
        raise ZeroDivisionError
    found = json.loads((tmp_path / "runs" / "mine" / "run.json").read_text())
    assert (found["state"], [step["verb"] for step in found["steps"]]) == ("failed", ["data", "train"])


def test_a_block_that_fails_before_anything_long_leaves_nothing(go, tmp_path):
    with pytest.raises(UsageError), go:
        go.train("tuned", data="nothing", fit=FIT)
    assert not (tmp_path / "runs").exists()
