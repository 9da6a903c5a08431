"""One order out of several rankings, by hand and by what every such order must keep."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnsmith.data.votes import ranked_pairs
from turnsmith.errors import DataError

NAMES = "abcde"


def test_three_identical_rankings_give_that_ranking():
    """Check of card 75."""
    assert ranked_pairs([["b", "c", "a"]] * 3).order == ("b", "c", "a")


def test_margins_are_wins_less_losses_both_ways_round():
    found = ranked_pairs([["a", "b", "c"], ["a", "c", "b"], ["b", "a", "c"]])
    # a over b: 2 - 1; a over c: 3 - 0; b over c: 2 - 1.
    assert found.margins == {
        ("a", "b"): 1, ("b", "a"): -1, ("a", "c"): 3, ("c", "a"): -3, ("b", "c"): 1, ("c", "b"): -1,
    }  # fmt: skip
    assert found.locked == (("a", "c"), ("a", "b"), ("b", "c"))


def test_a_cycle_is_broken_at_its_weakest_majority():
    """a over b 7 to 2, b over c 6 to 3, c over a 5 to 4: margins 5, 3 and 1."""
    found = ranked_pairs([["a", "b", "c"]] * 4 + [["b", "c", "a"]] * 2 + [["c", "a", "b"]] * 3)
    assert {pair: found.margins[pair] for pair in (("a", "b"), ("b", "c"), ("c", "a"))} == {
        ("a", "b"): 5, ("b", "c"): 3, ("c", "a"): 1,
    }  # fmt: skip
    assert found.order == ("a", "b", "c")
    assert ("c", "a") not in found.locked


def test_a_cycle_of_equal_majorities_still_gives_a_full_order_by_names():
    """Each margin is 1: a over b is taken first, then b over c, and c over a says the opposite."""
    assert ranked_pairs([["c", "a", "b"], ["a", "b", "c"], ["b", "c", "a"]]).order == ("a", "b", "c")


def test_tidemans_order_differs_from_that_by_points():
    """6 rankings are x, y, z, and 4 are y, z, x: y has 14 points to 12, and x beats it 6 to 4."""
    assert ranked_pairs([["x", "y", "z"]] * 6 + [["y", "z", "x"]] * 4).order == ("x", "y", "z")


def test_names_that_tie_are_compared_with_others_alone():
    found = ranked_pairs([[("c", "b"), "a"], ["c", ["a", "b"]]])
    assert (found.margins["b", "c"], found.margins["b", "a"], found.margins["c", "a"]) == (-1, 1, 2)
    assert found.order == ("c", "b", "a")


def test_a_ranking_says_nothing_of_names_that_it_does_not_have():
    found = ranked_pairs([["b", "a"], ["c", "b"], ["d"]])
    assert found.order == ("c", "b", "a", "d")  # d is compared with nobody, and behind by its name
    assert found.margins["a", "c"] == 0


def test_no_ranking_gives_no_order():
    assert ranked_pairs([]).order == ()


def test_a_name_that_stands_twice_is_refused():
    with pytest.raises(DataError, match="ranking 1 has 'a' twice"):
        ranked_pairs([["a", "b"], ["a", ("b", "a")]])


@st.composite
def rankings(draw):
    """Rankings of some of five names, with ties."""
    found = []
    for _ in range(draw(st.integers(0, 6))):
        names = draw(st.permutations(NAMES))[: draw(st.integers(1, len(NAMES)))]
        places = sorted(draw(st.lists(st.integers(0, 3), min_size=len(names), max_size=len(names))))
        groups = [tuple(n for n, p in zip(names, places, strict=True) if p == place) for place in range(4)]
        found.append([group for group in groups if group])
    return found


@settings(max_examples=80, deadline=None)
@given(rankings(), st.randoms(use_true_random=False))
def test_every_order_is_full_and_keeps_what_a_majority_agrees_on(given, random):
    found = ranked_pairs(given)
    names = {name for one in given for group in one for name in group}
    assert sorted(found.order) == sorted(names)
    for name in names:
        if all(found.margins[name, other] > 0 for other in names - {name}):
            assert found.order[0] == name
    assert all(found.order.index(better) < found.order.index(worse) for better, worse in found.locked)
    shuffled = [[tuple(random.sample(group, len(group))) for group in one] for one in given]
    random.shuffle(shuffled)
    assert ranked_pairs(shuffled) == found
