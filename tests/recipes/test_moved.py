"""A model that has moved: what was trained from it is found again, and rests on it where it is now."""

import shutil

import pytest
import torch

from turnsmith import Steps
from turnsmith.models import load
from turnsmith.testing import conversations, directory, jsonl

FIT = {"steps": 1, "batch": 2, "lr": 1e-2, "length": 256, "dtype": "float32"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    directory(tmp_path / "before")
    jsonl(tmp_path / "rows.jsonl", conversations(6))
    return tmp_path


def go(here, base, *trainings):
    made = Steps(str(here / base), name="moved", to=here / f"run-{base}", forgetting=False)
    made.data("rows", read=str(here / "rows.jsonl"))
    start = "base"
    for number, trainable in enumerate(trainings):
        record = made.train(f"model{number}", start=start, data="rows", trainable=trainable, fit=FIT)
        start = f"model{number}"
    return load.load(made.model(start))[0], record["reused"]


@pytest.mark.parametrize(
    "trainings",
    [
        ("lora",),
        ("lora", "lora"),
        ({"loramoe": {"balance": 0.0}},),
        ("random_entries",),
        ("lora", "random_entries"),
    ],
    ids=["lora", "lora and on", "loramoe", "sparse", "sparse on lora"],
)
def test_what_was_trained_is_found_where_the_model_has_gone(here, trainings):
    before, _ = go(here, "before", *trainings)
    (here / "before").rename(here / "after")
    after, reused = go(here, "after", *trainings)
    assert reused
    for (name, one), other in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_a_model_that_is_still_there_stays_what_it_rests_on(here):
    go(here, "before", "lora")
    shutil.copytree(here / "before", here / "copy")
    _, reused = go(here, "copy", "lora")
    assert reused
    (adapter,) = (here / "home" / "shelf").glob("*/model/adapter_config.json")
    assert load.read_object(adapter)["base_model_name_or_path"] == str(here / "before")
