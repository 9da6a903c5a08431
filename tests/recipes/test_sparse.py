"""Steps in which single weights learn: they leave a sparse difference, and what can be done with it."""

import pytest
import torch

from turnsmith import Steps
from turnsmith.models import load
from turnsmith.models.directory import is_patch
from turnsmith.testing import conversations, directory, jsonl
from turnsmith.trainables.lottery import maskable

FIT = {"steps": 2, "batch": 2, "lr": 1e-2, "weight_decay": 0.1, "length": 256}
LOTTERY = {"lottery": {"moved": "moved", "budget": 200}}


@pytest.fixture
def go(tmp_path, monkeypatch):
    """A run with its data, on the tiny model, in a cache of its own."""
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    base = directory(tmp_path / "base")
    rows = jsonl(tmp_path / "rows.jsonl", conversations(6))
    made = Steps(base, name="sparse", to=tmp_path / "run", forgetting=False)
    made.data("rows", read=str(rows))
    return made


def weights(go, name):
    return {n: p.detach().clone() for n, p in load.load(go.model(name))[0].named_parameters()}


def changes(go, name, start="base"):
    before = weights(go, start)
    return {n: p != before[n] for n, p in weights(go, name).items()}


def test_what_a_lottery_leaves_is_a_sparse_difference_of_the_weights_that_moved_most(go):
    go.train("moved", data="rows", trainable="matrices", fit=FIT)
    record = go.train("drawn", data="rows", trainable=LOTTERY, fit=FIT)
    start, moved = weights(go, "base"), weights(go, "moved")
    far = torch.cat([(moved[n] - start[n]).abs().flatten() for n in maskable(load.load(go.model("base"))[0])])
    least = far.sort(descending=True).values[199]
    assert is_patch(load.locate(go.model("drawn")))
    assert record["parameters"]["learning"] == 200
    assert 0 < sum(int(which.sum()) for which in changes(go, "drawn").values()) <= 200
    for name, which in changes(go, "drawn").items():
        assert (moved[name] - start[name]).abs()[which].ge(least).all()


def test_a_training_of_all_entries_is_kept_whole(go):
    go.train("moved", data="rows", trainable="matrices", fit=FIT)
    go.train("all", data="rows", trainable={"lottery": {"moved": "moved", "share": 1.0}}, fit=FIT)
    assert not is_patch(load.locate(go.model("all")))
    assert all(torch.equal(p, weights(go, "moved")[n]) for n, p in weights(go, "all").items())


@pytest.mark.parametrize("trainable", ["full", "lora", "random_entries"])
def test_another_training_may_start_from_it(go, trainable):
    go.train("drawn", data="rows", trainable="random_entries", fit=FIT)
    go.train("next", start="drawn", data="rows", trainable=trainable, fit=FIT)
    model = load.load(go.model("next"))[0]
    if trainable == "lora":
        model = model.unload()
        start = weights(go, "drawn")
        assert all(torch.equal(p, start[n]) for n, p in model.named_parameters())
    else:
        assert any(which.any() for which in changes(go, "next", start="drawn").values())
    assert is_patch(load.locate(go.model("next"))) == (trainable == "random_entries")


def test_on_an_adapter_it_is_kept_whole(go):
    """The weights that it would be a difference of are in no file."""
    go.train("adapted", data="rows", trainable="lora", fit=FIT)
    go.train("drawn", start="adapted", data="rows", trainable="random_entries", fit=FIT)
    assert not is_patch(load.locate(go.model("drawn")))
    assert not load.has_adapter(go.model("drawn"))


def test_two_sparse_differences_are_added(go):
    for number, name in enumerate(("language", "task")):
        go.train(name, data="rows", trainable={"random_entries": {"number": number}}, fit=FIT)
    go.merge("both", models=["language", "task"], method="add")
    one, other, both = (changes(go, name) for name in ("language", "task", "both"))
    assert all(not (both[n] & ~(one[n] | other[n])).any() for n in both)
    assert sum(int(which.sum()) for which in both.values()) > sum(int(which.sum()) for which in one.values())
