"""The order of examples: every one once per epoch, each epoch shuffled anew, and a step is a position."""

import numpy as np
import pytest

from turnsmith.data.stream import Stream
from turnsmith.testing import tokens
from turnsmith.types import Rendered

PINNED = [[7, 0, 4, 6, 2, 1, 3, 5], [7, 2, 6, 1, 0, 4, 5, 3]]  # as it was when epochs were lists


def stream(count=10, *, batch=3, order="shuffled", seed=0):
    examples = [Rendered(str(i), {"text": (tokens([i, i], 1),)}) for i in range(count)]
    return Stream(examples, batch=batch, order=order, seed=seed)


def epochs(one, count, steps):
    seen = [index for step in range(steps) for index in one.indices(step)]
    return [seen[start : start + count] for start in range(0, len(seen) - count + 1, count)]


@pytest.mark.parametrize(("count", "batch"), [(10, 3), (10, 5), (7, 2), (3, 8), (1, 4), (5, 1)])
def test_every_example_comes_once_in_each_epoch(count, batch):
    found = epochs(stream(count, batch=batch), count, 5 * count)
    assert len(found) >= 4
    assert all(sorted(epoch) == list(range(count)) for epoch in found)


def test_each_epoch_is_shuffled_anew():
    found = epochs(stream(20, batch=4), 20, 50)
    assert len({tuple(epoch) for epoch in found}) == len(found) == 10
    assert list(range(20)) not in found


def test_in_the_given_order_every_epoch_is_the_same():
    assert epochs(stream(5, batch=2, order="given"), 5, 10) == [[0, 1, 2, 3, 4]] * 4


def test_a_window_may_reach_over_the_end_of_an_epoch():
    assert stream(5, batch=3, order="given").indices(1) == [3, 4, 0]


def test_a_window_does_not_depend_on_those_asked_for_before():
    straight = [stream().indices(step) for step in range(40)]
    one = stream()
    steps = np.random.default_rng(0).permutation(40).tolist()
    assert all(one.indices(step) == straight[step] for step in steps)


def test_the_same_seed_gives_the_same_order_and_another_seed_another():
    orders = [[stream(20, seed=seed).indices(step) for step in range(6)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_the_order_does_not_depend_on_the_batch():
    flat = [[i for step in range(12 // size) for i in stream(6, batch=size).indices(step)] for size in (2, 3)]
    assert flat[0] == flat[1]


@pytest.mark.parametrize(("count", "batch", "steps"), [(10, 3, 0), (10, 3, 7), (5, 5, 4), (3, 8, 5)])
def test_how_often_each_is_seen_is_what_the_windows_hold(count, batch, steps):
    one = stream(count, batch=batch)
    seen = [index for step in range(steps) for index in one.indices(step)]
    assert one.times(steps).tolist() == [seen.count(index) for index in range(count)]


def test_the_order_of_a_seed_is_pinned():
    assert [stream(8, batch=8, seed=3).indices(step) for step in (0, 1)] == PINNED


def test_a_window_holds_the_examples_themselves():
    one = stream(4, batch=2, order="given")
    assert [example.id for example in one.window(1)] == ["2", "3"]


def test_the_first_places_are_filled_evenly():
    firsts = [stream(5, batch=5, seed=seed).indices(0)[0] for seed in range(500)]
    # 100 each is expected; 55 and 145 lie five standard deviations (sqrt(500 * 0.2 * 0.8) = 8.9) away.
    assert all(55 < firsts.count(index) < 145 for index in range(5))


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match="no examples"):
        stream(0)
