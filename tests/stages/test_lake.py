"""Ways over the frozen lake, by hand: S F F F / F H F H / F F F H / H F F G, squares a to p."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest

from turnsmith.errors import UsageError
from turnsmith.stages.lake import SQUARES, ended, lake_pair, lake_walks, made, policy, walked
from turnsmith.testing import chat
from turnsmith.types import Example

# One step to each side, or none against the border, from the squares that are no hole and not the goal.
NEXT = {
    "a": "aaeb", "b": "acfb", "c": "bdgc", "d": "cdhd", "e": "aeif", "g": "cfkh",
    "i": "ijem", "j": "ikfn", "k": "jlgo", "n": "mnoj", "o": "npok",
}  # fmt: skip
# Steps to the goal, counted on the map round the holes f, h, l and m.
STEPS = {"a": 6, "b": 5, "c": 4, "d": 5, "e": 5, "g": 3, "i": 4, "j": 3, "k": 2, "n": 2, "o": 1, "p": 0}


def texts(example):
    return {part: one.messages[0].content for part, one in example.parts.items()}


def test_holes_and_goal_end_a_walk():
    assert {s for s, end in zip(SQUARES, ended(made()), strict=True) if end} == set("fhlmp")


def test_aimless_ways_begin_at_the_start_step_to_neighbours_and_end_where_they_must():
    ways = [texts(x)["text"] for x in lake_walks([], count=50, rng=Random(3))]
    for way in ways:
        assert way[0] == "a"
        assert all(to in NEXT[at] for at, to in pairwise(way))
        assert way[-1] in "fhlmp" or len(way) == 101
    assert len(set(ways)) > 30
    assert ways == [texts(x)["text"] for x in lake_walks([], count=50, rng=Random(3))]


def test_ways_come_after_the_data():
    given = [Example({"text": chat("u: Hi", "a: Hello")}, {}, {"id": "first"})]
    assert [x.id for x in lake_walks(given, count=2, rng=Random(0))] == ["first", "walk-0", "walk-1"]
    assert [x.id for x in lake_pair(given, other="rd")] == ["first", "lake-pair"]


def test_the_optimal_policy_takes_all_shortest_ways_equally():
    found = policy(made(), discount=0.95)
    for at, square in enumerate(SQUARES):
        if square not in NEXT:
            assert not found[at].any()
            continue
        near = {to for to in NEXT[square] if STEPS.get(to, 99) == STEPS[square] - 1}
        expected = np.array([1 / len(near) if to in near else 0.0 for to in SQUARES])
        np.testing.assert_allclose(found[at], expected, atol=1e-12)


def test_a_pair_is_walked_and_stands_in_three_parts():
    [pair] = lake_pair([], optimal="ddrdrr", other="ddrrldrr")
    assert texts(pair) == {"text": "aeijnop", "chosen": "aeijnop", "rejected": "aeijkjnop"}


def test_a_walk_ends_in_a_hole_whatever_actions_are_left():
    assert walked(made(), [2, 1, 1, 1]) == "abf"


@pytest.mark.parametrize(
    ("optimal", "other", "said"),
    [
        ("ddrrldrr", "rd", "leads aeijkjnop"),  # a detour
        ("ddr", "rd", "leads aeij"),  # optimal so far, not at the goal
        ("ddrdrr", "rrdddr", "leads abcgkop: the first"),  # optimal too
        ("ddrdrr", "rr", "leads abc: the first"),  # ends nowhere
        ("ddrdrr", "north", "other is 'north': actions are letters of l, d, r, u"),
        ("", "rd", "optimal is ''"),
    ],
)
def test_ways_that_are_no_such_pair_are_refused(optimal, other, said):
    with pytest.raises(UsageError, match=said):
        list(lake_pair([], optimal=optimal, other=other))
