"""Many examples are stored as tokens under a hash of all that they depend on, and train as few do."""

import json
from pathlib import Path

import pytest

import turnsmith
from turnsmith import wheels
from turnsmith.errors import DataError
from turnsmith.recipes import tokenising
from turnsmith.testing import conversations, directory, jsonl
from turnsmith.testing.builders import CHATML

FIT = {"steps": 3, "batch": 2, "length": 128, "dtype": "float32", "lr": 1e-2}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return directory(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    jsonl(tmp_path / "chats.jsonl", conversations(24))
    jsonl(tmp_path / "pairs.jsonl", conversations(24, parts=("chosen", "rejected")))


@pytest.fixture
def many(monkeypatch):
    """So few as there are here count as many."""
    monkeypatch.setattr(tokenising, "MANY", 2)


def recipe(base, data="chats", **train):
    step = {"name": "tuned", "data": "train", "trainable": {"lora": {"rank": 2}}, "fit": FIT, **train}
    read = {"name": {"train": 0.9, "held": 0.1}, "read": f"{data}.jsonl"}
    return {
        "title": "Mine",
        "base": str(base),
        "forgetting": False,
        "steps": [{"data": read}, {"train": step}],
    }


def run(plain):
    """What the train step's record says, and the bytes of the adapter."""
    (found,) = turnsmith.run(plain, name="mine")
    step = found["steps"][-1]
    return step, (Path(step["path"]) / "model" / "adapter_model.safetensors").read_bytes()


def stores():
    """The artefacts of tokens that are on the shelf."""
    records = (wheels.home() / "shelf").glob("*/turnsmith.json")
    return {file.parent for file in records if json.loads(file.read_text())["kind"] == "tokens"}


def steps(plain):
    """The losses and sizes that were recorded."""
    step, adapter = run(plain)
    return [step[name] for name in ("steps", "tokens", "supervised", "examples", "counts", "shown")], adapter


@pytest.mark.parametrize(
    ("data", "train"),
    [
        ("chats", {}),
        ("chats", {"validate_on": "held", "fit": {**FIT, "evaluate": 1}}),
        ("chats", {"fit": {**FIT, "length": 40, "over": "oldest"}}),
        ("pairs", {"objective": "dpo"}),
    ],
)
def test_many_train_as_few_do(tiny, tmp_path, monkeypatch, data, train):
    few = steps(recipe(tiny, data, **train))
    assert not stores()
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(tokenising, "MANY", 2)
    assert steps(recipe(tiny, data, **train)) == few
    assert len(stores()) == 1 + ("validate_on" in train)


def test_what_is_cut_of_the_data_for_validation_is_told(tiny):
    fit = {**FIT, "length": 40, "over": "oldest", "evaluate": 3}
    said = []
    (found,) = turnsmith.run(recipe(tiny, validate_on="held", fit=fit), name="mine", say=said.append)
    (warning,) = [one for one in found["warnings"] if one.startswith("of held: ")]
    assert "cut: lost their oldest turns" in warning
    assert f"        {warning}" in said


def test_check_and_run_and_another_run_share_the_tokens(tiny, many):
    checked = turnsmith.check(recipe(tiny))["train"][0]
    (made,) = stores()
    before = {file: file.stat().st_mtime_ns for file in made.rglob("*")}
    step, _ = run(recipe(tiny, fit={**FIT, "lr": 1e-3}))
    assert stores() == {made}
    assert {file: file.stat().st_mtime_ns for file in made.rglob("*")} == before
    assert (checked["examples"], checked["supervised"]) == (step["examples"], step["supervised"])


@pytest.mark.parametrize(
    "train", [{"train_on": "last"}, {"fit": {**FIT, "length": 127}}, {"fit": {**FIT, "over": "drop"}}]
)
def test_other_terms_make_other_tokens(tiny, many, train):
    turnsmith.check(recipe(tiny))
    turnsmith.check(recipe(tiny, **train))
    assert len(stores()) == 2


def test_another_template_makes_other_tokens(tiny, tmp_path, many):
    turnsmith.check(recipe(tiny))
    other = directory(tmp_path / "template", template=CHATML.replace("'<|im_end|>\n'", "'<|im_end|>\n\n'"))
    turnsmith.check(recipe(other))
    assert len(stores()) == 2


def test_another_tokenizer_makes_other_tokens_even_where_the_probe_shows_none(tiny, tmp_path, many):
    """A merge less: `Tell me a` is no longer what it was, and no message of the probe says so."""
    other = directory(tmp_path / "words")
    file = other / "tokenizer.json"
    plain = json.loads(file.read_text())
    plain["added_tokens"].append(
        {
            **plain["added_tokens"][-1],
            "id": 320,
            "content": "number",
            "special": False,
            "normalized": False,
        }
    )
    file.write_text(json.dumps(plain))
    turnsmith.check(recipe(tiny))
    turnsmith.check(recipe(other))
    assert len(stores()) == 2


def test_other_data_make_other_tokens(tiny, tmp_path, many):
    turnsmith.check(recipe(tiny))
    jsonl(tmp_path / "chats.jsonl", conversations(25))
    turnsmith.check(recipe(tiny))
    assert len(stores()) == 2


def test_the_share_that_may_be_dropped_is_held_to(tiny, many):
    fit = {**FIT, "length": 4, "over": "drop"}
    with pytest.raises(DataError, match="22 of 22 examples do not fit into 4 tokens"):
        turnsmith.check(recipe(tiny, fit=fit))
