"""Tables of questions and answers: which rows come nearest by each similarity."""

import numpy as np
import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.retrieve.table import Table, ranked, similarities, told

QUERY = np.array([1.0, 2.0, 2.0])
# The same direction twice as long; near, but turned; far and turned away.
ROWS = np.array([[2.0, 4.0, 4.0], [1.0, 2.0, 1.0], [-3.0, 0.0, 0.0]])
PAIRS = [("long", "a"), ("near", "b"), ("away", "c")]


def test_similarities_by_hand():
    """Lengths 3 and 6, sqrt 6, 3. Dot products 18, 7, -3. Distances 3, 1, sqrt (16 + 4 + 4)."""
    assert similarities(QUERY, ROWS, by="dot").tolist() == [18, 7, -3]
    assert similarities(QUERY, ROWS, by="cosine") == pytest.approx([1, 7 / (3 * 6**0.5), -1 / 3], abs=1e-12)
    assert similarities(QUERY, ROWS, by="euclidean") == pytest.approx([-3, -1, -(24**0.5)], abs=1e-12)


def test_influence_by_hand():
    """At two levels x = 0 1 1. y = 0 1 1: (0 - 2/3)^2 + 4 (1 - 2/3)^2 = 8/9, over 3 sqrt(2/9). y = 0 1 0:
    (0 - 1/3)^2 + 4 (1/2 - 1/3)^2 = 2/9. y = 0 1 1 again."""
    found = similarities(QUERY, ROWS, by="influence", levels=2)
    unit = 3 * (2 / 9) ** 0.5
    assert found == pytest.approx([8 / 9 / unit, 2 / 9 / unit, 8 / 9 / unit], abs=1e-12)


@pytest.mark.parametrize(
    ("by", "order"),
    [("dot", ["long", "near"]), ("cosine", ["long", "near"]), ("euclidean", ["near", "long"])],
)
def test_a_table_gives_the_nearest_pairs_first(by, order):
    found = Table(PAIRS, ROWS).nearest(QUERY, by=by)
    assert [question for question, _ in found] == order


def test_of_equals_the_earlier_comes_first():
    assert ranked(np.array([1.0, 3.0, 3.0, 1.0]), top_n=3) == [1, 2, 0]


def test_a_small_table_gives_all_its_rows():
    assert len(Table(PAIRS, ROWS).nearest(QUERY, by="cosine", top_n=10)) == 3


def test_nothing_can_be_looked_up_in_no_rows_or_as_none():
    with pytest.raises(UsageError, match="top_n is 0"):
        ranked(np.array([1.0]), top_n=0)
    with pytest.raises(DataError, match="a vector for each: 0 and 0"):
        Table([], np.empty((0, 3)))


def test_a_vector_without_direction_is_refused():
    with pytest.raises(DataError, match="length 0 has no direction"):
        similarities(QUERY, np.zeros((1, 3)), by="cosine")


def test_pairs_are_told_in_lines():
    assert told(PAIRS[:2]) == "Q: long; A: a\nQ: near; A: b"
