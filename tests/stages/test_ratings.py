"""Conversations chosen by ratings, and by length alone."""

from collections import Counter

import pytest

from turnsmith.errors import DataError
from turnsmith.stages.ratings import longest, mean_rating, rated, rating, renamed
from turnsmith.testing import chat
from turnsmith.types import Example


def example(name, ratings=None, said=("u: a", "a: b")):
    meta = {"id": name} | ({} if ratings is None else {"ratings": ratings})
    return Example({"text": chat(*said)}, {}, meta)


@pytest.mark.parametrize(
    ("ratings", "mean"),
    [
        (None, None),
        ({"witty": 5, "upbeat": 5}, None),  # untouched
        ({"witty": 5, "upbeat": 8}, 6.5),
        ({"witty": 10, "upbeat": 9, "kind": 8}, 9.0),
        (7, 7.0),
        ({}, None),
    ],
)
def test_a_rating_is_the_mean_and_all_fives_are_none(ratings, mean):
    assert rating(example("x", ratings)) == mean


@pytest.mark.parametrize("wrong", [{"witty": "9"}, {"witty": True}, [9]])
def test_what_is_no_number_is_named(wrong):
    with pytest.raises(DataError, match="example 'x': ratings holds"):
        rating(example("x", wrong))


def test_those_rated_well_are_kept_and_the_others_counted_apart():
    data = [
        example("a", {"w": 8}),
        example("b", {"w": 7}),
        example("c"),
        example("d", {"w": 5}),
        example("e", 9),
    ]
    counts = Counter()
    assert [one.id for one in rated(data, least=8, counts=counts)] == ["a", "e"]
    assert counts == {"rated lower": 1, "unrated": 2}


def test_the_longest_are_kept_in_their_order_the_earlier_of_equals():
    four = ("u: a", "a: b", "u: c", "a: d")
    data = [example("a"), example("b", said=four), example("c"), example("d", said=(*four, "u: e"))]
    assert [one.id for one in longest(data, count=3)] == ["a", "b", "d"]
    assert [one.id for one in longest(data, count=9)] == ["a", "b", "c", "d"]
    with pytest.raises(DataError, match="-1 is negative"):
        list(longest(data, count=-1))


def test_a_part_takes_another_name_and_the_rest_goes():
    pair = Example(
        {"chosen": chat("u: a", "a: b"), "rejected": chat("u: a", "a: c")}, {"x": 1.0}, {"id": "p"}
    )
    counts = Counter()
    (found,) = renamed([pair, example("x")], part="chosen", counts=counts)
    assert found == Example({"text": pair.parts["chosen"]}, {"x": 1.0}, {"id": "p"})
    assert counts == {"have no part 'chosen'": 1}


def test_where_every_rating_was_given_a_five_counts():
    """As of feedback on answers, from 1 to 5: what a form shows at first is no rating there."""
    data = [Example({"text": chat("u: a", "a: b")}, {}, {"id": str(n), "rating": n}) for n in range(1, 6)]
    counts = Counter()
    kept = rated(data, least=4, key="rating", untouched=None, counts=counts)
    assert [one.id for one in kept] == ["4", "5"]
    assert counts == {"rated lower": 3}
    assert rating(data[4], "rating") is None


def test_the_mean_of_the_ratings_is_a_value_and_what_is_unrated_is_counted():
    counts = Counter()
    data = [example("a", {"w": 8, "v": 9}), example("b"), example("c", {"w": 5})]
    made = list(mean_rating(data, counts=counts))
    assert [(one.id, one.values) for one in made] == [("a", {"rating": 8.5})]
    assert counts == {"unrated": 2}
