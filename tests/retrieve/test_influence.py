"""The quantised influence measure: the checks of card 04, and values worked out by hand."""

import math

import numpy as np
import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.retrieve.influence import dagger, influence, quantised

ONE, OTHER = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 2.0, 3.0])


def drawn(*size, seed=0):
    return np.random.default_rng(seed).normal(size=size)


def test_levels_are_those_of_the_vectors_own_range():
    assert quantised(ONE, levels=4).tolist() == [0, 0, 3, 3]
    assert quantised(OTHER, levels=4).tolist() == [0, 1, 2, 3]
    # (x + 1) / 4 * 15: 0, 3.75, 15
    assert quantised(np.array([[-1.0, 0.0, 3.0]])).tolist() == [[0, 4, 15]]


def test_the_worked_example():
    """x = 0 0 3 3, so y = 0 1 | 2 3 has the means 0.5 and 2.5 about 1.5: 2^2 * 1^2 + 2^2 * 1^2 = 8; the
    variance of y is (2.25 + 0.25 + 0.25 + 2.25) / 4 = 1.25."""
    (found,) = influence(ONE, OTHER[None], levels=4)
    assert found == pytest.approx(8 / (4 * math.sqrt(1.25)), abs=1e-12)
    assert found == pytest.approx(1.788854, abs=1e-6)


def test_over_the_variance_it_is_the_influence_score():
    (found,) = influence(ONE, OTHER[None], levels=4, over="variance")
    assert found == pytest.approx(8 / (4 * 1.25), abs=1e-12)


def test_a_group_counts_by_the_square_of_its_size():
    """x = 0 0 0 3 and y = 0 0 3 3: means 1 and 3 about 1.5: 9 * 0.25 + 1 * 2.25 = 4.5; the variance is
    2.25."""
    x, y = np.array([0.0, 0.0, 0.0, 1.0]), np.array([[0.0, 0.0, 1.0, 1.0]])
    assert influence(x, y, levels=4)[0] == pytest.approx(4.5 / (4 * 1.5), abs=1e-12)


def test_the_dagger_transform_gives_each_coordinate_the_mean_of_its_group():
    rows = np.array([OTHER, OTHER[::-1]])
    assert dagger(ONE, rows, levels=4).tolist() == [[0.5, 0.5, 2.5, 2.5], [2.5, 2.5, 0.5, 0.5]]


def test_rows_are_measured_together_as_they_are_alone():
    query, rows = drawn(60), drawn(5, 60, seed=1)
    alone = [influence(query, row[None])[0] for row in rows]
    assert influence(query, rows) == pytest.approx(alone, rel=1e-12)


def test_offset_and_scale_do_not_matter():
    """Of two: one power of two, which rounds nothing, and offsets that leave the levels apart from ties."""
    query, row = drawn(576), drawn(1, 576, seed=1)
    assert influence(query, 4 * row) == pytest.approx(influence(query, row), rel=1e-12)
    assert influence(query, 0.3 * row + 7) == pytest.approx(influence(query, row), rel=1e-12)
    assert influence(2 * query - 1, row) == pytest.approx(influence(query, row), rel=1e-12)


def test_it_does_not_see_signs():
    row = drawn(576)
    one, other = influence(row, np.stack([row, -row]))
    assert one == pytest.approx(other, rel=1e-12)


def test_it_is_not_symmetric():
    """Against the worked example: y is grouped into single points by OTHER, sum (y - m)^2 = 4 * 2.25 = 9 of
    x = 0 0 3 3, whose deviation is 1.5."""
    (back,) = influence(OTHER, ONE[None], levels=4)
    assert back == pytest.approx(9 / (4 * 1.5), abs=1e-12)
    assert back != pytest.approx(influence(ONE, OTHER[None], levels=4)[0], abs=0.1)


def test_too_many_levels_destroy_it():
    """Unrelated vectors have some 0.01 of a vector's influence on itself at 16 levels, and 0.7 at 1024."""
    row, others = drawn(576), drawn(40, 576, seed=1)
    shares = {
        levels: influence(row, others, levels=levels).mean() / influence(row, row[None], levels=levels)[0]
        for levels in (16, 1024)
    }
    assert 0.003 < shares[16] < 0.03
    assert 0.6 < shares[1024] < 0.8


def test_where_every_coordinate_is_a_group_of_its_own_the_query_no_longer_counts():
    """Then it is sum (y - m)^2 / (n s) = s."""
    rows = np.array([OTHER, [0.0, 0.0, 0.0, 3.0]])
    for query in (np.array([0.0, 1.0, 2.0, 3.0]), np.array([3.0, 0.0, 1.0, 2.0])):
        assert influence(query, rows, levels=4) == pytest.approx([math.sqrt(1.25), math.sqrt(27 / 16)])


def test_a_constant_vector_is_an_error_that_names_it():
    flat = np.stack([OTHER, np.ones(4)])
    with pytest.raises(DataError, match="row 1 is constant"):
        influence(ONE, flat)
    with pytest.raises(DataError, match="the vector is constant"):
        influence(np.ones(4), flat[:1])


def test_what_is_no_number_is_an_error_that_names_it():
    with pytest.raises(DataError, match="row 0 holds what is no number"):
        influence(ONE, np.array([[0.0, math.nan, 1.0, 2.0]]))


def test_one_level_is_refused():
    with pytest.raises(UsageError, match="levels is 1: two or more"):
        influence(ONE, OTHER[None], levels=1)


def test_a_row_of_wider_spread_may_come_before_the_query_itself():
    """On itself x = 0 1 2 3, about 1.5, has 2.25 + 0.25 + 0.25 + 2.25 = 5 over 4 sqrt(1.25), which is 1.118;
    on y = 0 0 3 3 it has 4 * 2.25 = 9 over 4 * 1.5."""
    narrow, wide = influence(OTHER, np.array([OTHER, ONE]), levels=4)
    assert narrow == pytest.approx(5 / (4 * math.sqrt(1.25)), abs=1e-12)
    assert wide == pytest.approx(1.5, abs=1e-12)
    assert wide > narrow
