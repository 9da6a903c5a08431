"""What a look ahead says of memory: by the formula of a training, without its weights."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

import turnsmith
from turnsmith.cli.main import call
from turnsmith.recipes import forecast
from turnsmith.testing import conversations, directory, jsonl, tokenizer
from turnsmith.train import room as rooms

FIT = {"steps": 2, "batch": 2, "length": 128, "row": 128, "dtype": "float32"}
BASE = "student/model.safetensors"
ROTATION = 8 // 2  # frequencies of a head of 8 numbers; transformers keeps the original ones beside
VALUES = "memory is not estimated: random_entries depends on the values of weights"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with chats and a model, and a process that holds a million bytes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(rooms, "_held_now", lambda scoring: 1e6)
    jsonl(tmp_path / "chats.jsonl", conversations(8))
    directory(tmp_path / "student")


def recipe(trainable="full", **fit):
    train = {"name": "tuned", "data": "train", "trainable": trainable, "fit": {**FIT, **fit}}
    read = {"name": "train", "read": "chats.jsonl"}
    return {
        "title": "Mine",
        "base": "./student",
        "forgetting": False,
        "steps": [{"data": read}, {"train": train}],
    }


def looked(*arguments, **fit):
    (found,) = turnsmith.check(recipe(*arguments, **fit))["train"]
    return found


def test_what_learns_is_there_once_as_weight_and_three_times_for_adamw():
    vocabulary, hidden, layers = len(tokenizer()), 32, 2
    matrices = hidden * hidden * 2 + 2 * hidden * 16 + 3 * hidden * 64  # q and o, k and v, feed-forward
    weights = vocabulary * hidden + layers * (matrices + 2 * hidden) + hidden
    block = 8 * hidden + 2 + 2 * 16 + 4 * 64  # numbers that a block holds of a token
    logits = rooms.LOGITS * vocabulary
    found = looked()["memory_gib"] * 2**30
    least = 1e6 + 4 * (4 * weights + 2 * ROTATION + 128 * (layers * block + logits))
    ends = 128 * 4 * (6 * hidden)  # of embeddings, last norm and the states that the head reads, about
    assert least < found < least + ends


def test_the_best_state_is_counted_where_one_is_kept():
    plain = recipe()
    plain["steps"][1]["train"]["validate_on"] = "train"
    plain["steps"][1]["train"]["fit"]["evaluate"] = 1
    kept = turnsmith.check(plain)["train"][0]["memory_gib"] - looked()["memory_gib"]
    weights = sum(v.numel() for v in load_file(BASE).values())
    assert kept * 2**30 == pytest.approx(4 * weights)


def test_but_for_what_is_yet_to_be_loaded_it_is_what_the_training_expects():
    told = looked("lora")["memory_gib"] * 2**30
    (run,) = turnsmith.run(recipe("lora"), name="mine", to="run")
    adapter = load_file(Path(run["steps"][1]["path"], "model", "adapter_model.safetensors"))
    weights = sum(one.numel() for one in (*load_file(BASE).values(), *adapter.values()))
    assert told - run["steps"][1]["room"]["peak"] == 4 * (weights + 2 * ROTATION)


def test_where_memory_will_not_do_it_says_which_option_saves_how_much(monkeypatch, capfd):
    monkeypatch.setattr(forecast, "available", lambda device: 2e6)
    said = looked(evaluate=0)["memory_said"]
    assert "activations are computed twice instead of kept" in said
    assert "What would save: conversations of half the length (fit.length: " in said
    assert "an adapter (trainable: lora) about" in said
    Path("mine.yaml").write_text(json.dumps(recipe()))
    assert call(["check", "mine.yaml"]) == 0
    assert said.partition(":")[0] in capfd.readouterr().out


def test_where_a_trainable_chooses_by_values_it_says_that_it_does_not_know(capfd):
    found = looked({"random_entries": {"share": 0.1}})
    assert (found["memory_gib"], found["memory_said"]) == (None, VALUES)
    Path("mine.yaml").write_text(json.dumps(recipe({"random_entries": {"share": 0.1}})))
    assert call(["check", "mine.yaml"]) == 0
    assert VALUES in capfd.readouterr().out


def test_a_trainable_that_reads_another_model_is_not_estimated():
    said = looked({"lottery": {"moved": "./student"}})["memory_said"]
    assert said == "memory is not estimated: lottery chooses by the weights of './student'"


def test_other_errors_are_not_taken_for_a_want_of_values(monkeypatch):
    def broken(*_arguments, **_options):
        raise RuntimeError("something else")

    monkeypatch.setattr(forecast, "installed", broken)
    with pytest.raises(RuntimeError, match="something else"):
        looked()
