"""Rows get as long as memory allows; what is chosen other than asked for is said with its reason."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch

from turnsmith.data.batch import pack
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.testing import model
from turnsmith.train import room as rooms
from turnsmith.train.options import Fit
from turnsmith.train.room import Room, available, room
from turnsmith.trainables.install import install
from turnsmith.trainables.lora import Lora
from turnsmith.trainables.select import layers

GIB = 2**30


def scoring(trainable: Callable[..., Any] = Lora, **options: Any) -> Scoring:
    whole = model()
    forest.attach(whole)
    return Scoring(install(whole, trainable, options, seed=0))


@pytest.fixture
def made(monkeypatch):
    """A scoring, what its rows take of each token, and memory for so many tokens."""
    monkeypatch.setattr(rooms, "SLABS", 0)
    one = scoring()
    token = rooms._per_token(one, pack)

    def memory(tokens):
        return (tokens * token + rooms._static(one, Fit(steps=1))) / rooms.SHARE + 1

    return one, token, memory


def test_what_fits_is_left_as_it_is(made):
    one, _, memory = made
    assert room(one, pack, Fit(steps=1, row=500), 300, free=memory(500)) == Room(500, False)


def test_rows_are_shortened_where_every_example_still_fits(made):
    one, _, memory = made
    found = room(one, pack, Fit(steps=1, row=5000), 300, free=memory(1000))
    assert (found.row, found.recompute) == (1000, False)
    assert found.said.startswith("rows of 1,000 tokens, not 5,000: 0.0 GiB are free, and rows of 5,000")


def test_where_an_example_does_not_fit_activations_are_computed_twice(made):
    one, token, memory = made
    found = room(one, pack, Fit(steps=1, row=50_000), 1000, free=memory(900))
    assert found.recompute
    assert 1000 <= found.row < 50_000
    assert rooms._per_token(one, pack) < token / 2  # switched on in the model
    assert "computed twice instead of kept" in found.said
    assert "Even so" not in found.said


def test_where_that_is_not_enough_either_it_says_which_option_saves_how_much(monkeypatch):
    monkeypatch.setattr(rooms, "SLABS", 0)
    monkeypatch.setattr(rooms, "_gib", lambda size: f"{size:.0f} B")
    one = scoring(layers, last=2)
    learning = sum(4 * p.numel() for p in one.parameters() if p.requires_grad)
    whole, fit = rooms._per_token(one, pack), Fit(steps=1, row=5000, evaluate=1)
    found = room(one, pack, fit, 1000, free=rooms._static(one, fit) / rooms.SHARE)
    token = rooms._per_token(one, pack)
    assert found.row == 1000
    assert f"that saves {1000 * (whole - token):.0f} B" in found.said
    assert f"Even so these hold {1000 * token:.0f} B, which is {1000 * token:.0f} B more" in found.said
    assert f"half the length (fit.length: 500) {500 * token:.0f} B" in found.said
    assert f"no best state (fit.evaluate: 0) {learning} B" in found.said
    adapter = rooms.SMALL * sum(4 * p.numel() for p in one.parameters())
    assert found.said.endswith(f"(trainable: lora) about {4 * (learning - adapter):.0f} B")


def test_an_adapter_is_not_told_to_become_one():
    one, fit = scoring(rank=2), Fit(steps=1, row=5000)
    found = room(one, pack, fit, 1000, free=rooms._static(one, fit) / rooms.SHARE)
    assert found.row == 1000
    assert "fit.length: 500" in found.said
    assert "lora" not in found.said
    assert "evaluate" not in found.said


def test_the_peak_grows_by_what_each_token_holds_and_by_what_learns(monkeypatch):
    monkeypatch.setattr(rooms, "_held_now", lambda scoring: 1000.0)
    one = scoring(layers, last=2)
    learning = sum(4 * p.numel() for p in one.parameters() if p.requires_grad)
    token = 500 + rooms.LOGITS * 4 * one.vocabulary
    for row in (10, 100):
        assert rooms.peak(one, Fit(steps=1), row, 500) == pytest.approx(1000 + 3 * learning + row * token)
    more = rooms.peak(one, Fit(steps=1, evaluate=1), 10, 500) - rooms.peak(one, Fit(steps=1), 10, 500)
    assert more == pytest.approx(learning)


def test_what_would_save_is_told_of_rows_that_fit_as_well(monkeypatch):
    monkeypatch.setattr(rooms, "_gib", lambda size: f"{size:.0f} B")
    one = scoring(rank=2)
    token = rooms._per_token(one, pack)
    found = room(one, pack, Fit(steps=1, row=500), 300, free=GIB)
    assert found.ways == (
        f"activations computed twice (fit.gradient_checkpointing: true) most of {500 * token:.0f} B",
        f"rows of the longest example (fit.row: 300) {200 * token:.0f} B",
        f"conversations of half the length (fit.length: 250) {250 * token:.0f} B",
    )


def test_the_choice_is_kept_for_going_on(made, tmp_path):
    one, _, memory = made
    file = tmp_path / "room.json"
    first = room(one, pack, Fit(steps=1, row=5000), 1000, free=memory(900), file=file)
    fresh = scoring()
    assert room(fresh, pack, Fit(steps=1, row=5000), 1000, free=memory(9000), file=file) == first
    assert rooms._per_token(fresh, pack) == rooms._per_token(one, pack)


def test_a_token_takes_no_memory_below_the_lowest_block_that_learns():
    both, last = (rooms._per_token(scoring(layers, last=count), pack) for count in (2, 1))
    assert last < 0.7 * both


def test_measuring_changes_neither_mode_nor_random_numbers(made):
    one, _, _ = made
    one.eval()
    before = torch.get_rng_state()
    rooms._per_token(one, pack)
    assert not one.training
    assert torch.equal(before, torch.get_rng_state())


def test_nothing_is_left_of_a_pass_that_was_measured():
    def held() -> set[int]:
        gc.collect()
        return {id(each) for each in gc.get_objects() if isinstance(each, torch.Tensor) and each.grad_fn}

    one, before = scoring(), held()
    room(one, pack, Fit(steps=1), 8, free=GIB)
    assert held() <= before


def test_some_memory_is_available_here():
    assert available("cpu") > 0.1 * GIB
