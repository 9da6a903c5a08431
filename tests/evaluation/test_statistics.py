"""Paired differences: point values by hand, intervals that cover what they say, verdicts by direction."""

import numpy as np
import pytest

from turnsmith.evaluation.statistics import Difference, paired


def test_sums_are_divided_by_the_sum_of_sizes():
    found = paired([10, 2], [4, 5], [5, 1])
    # 12 / 6 = 2 before, 9 / 6 = 1.5 after
    assert (found.n, found.before, found.after, found.difference) == (2, 2.0, 1.5, -0.5)


def test_without_sizes_they_are_means():
    found = paired([1, 0, 1, 0], [1, 1, 1, 0])
    assert (found.before, found.after, found.difference) == (0.5, 0.75, 0.25)


def test_a_difference_that_is_the_same_everywhere_is_certain():
    found = paired([1, 2, 3], [2, 3, 4])
    assert (found.low, found.high) == (1.0, 1.0)


def test_of_two_items_the_interval_reaches_over_both():
    # A resample is (a, a), (a, b), (b, a) or (b, b), each 1/4: the quantiles 0.025 and 0.975 are a and b.
    found = paired([0, 0], [1, 3])
    assert (found.difference, found.low, found.high) == (2.0, 1.0, 3.0)


def test_items_are_resampled_with_both_sides_together():
    """Items differ wildly and change by the same: unpaired, the interval would be wide."""
    before = np.random.default_rng(0).normal(0, 100, 50)
    found = paired(before.tolist(), (before + 1).tolist())
    assert found.low == pytest.approx(1)
    assert found.high == pytest.approx(1)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(400):
        sizes = rng.integers(1, 30, 60)
        before = rng.normal(3, 1, 60) * sizes
        after = before + rng.normal(-0.2, 0.5, 60) * sizes
        found = paired(before.tolist(), after.tolist(), sizes.tolist(), seed=seed)
        covered += found.low <= -0.2 <= found.high
    # 0.95 with a standard error of sqrt(0.95 * 0.05 / 400) = 0.011; the percentile interval of 60 items is
    # a little too narrow, so that 0.92 to 0.98 is asked for.
    assert 0.92 <= covered / 400 <= 0.98


def test_a_higher_level_gives_a_wider_interval():
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 30)).tolist()
    narrow, wide = paired(before, after, level=0.8), paired(before, after, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert (narrow.level, wide.level) == (0.8, 0.99)


def test_the_same_seed_gives_the_same_interval_whatever_the_count():
    rng = np.random.default_rng(0)
    for count in (3, 1000):
        before, after = rng.normal(size=(2, count)).tolist()
        assert paired(before, after, seed=1) == paired(before, after, seed=1)


def test_items_of_no_size_change_nothing():
    one = paired([1, 2], [2, 2], [1, 1])
    other = paired([1, 2, 0], [2, 2, 0], [1, 1, 0])
    assert (one.before, one.after) == (other.before, other.after)


@pytest.mark.parametrize(
    ("low", "high", "better", "verdict"),
    [
        (-2, -1, "lower", "better"),
        (-2, -1, "higher", "worse"),
        (1, 2, "lower", "worse"),
        (1, 2, "higher", "better"),
        (-1, 1, "lower", "undecided"),
        (-1, 0, "lower", "undecided"),
        (0, 1, "higher", "undecided"),
        (0, 0, "higher", "undecided"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(low, high, better, verdict):
    assert Difference(9, 0, 0, (low + high) / 2, low, high, 0.95).verdict(better) == verdict


@pytest.mark.parametrize(
    ("before", "after", "sizes", "said"),
    [
        ([], [], None, r"at least one: \(1, 0\), \(1, 0\), \(1, 0\)"),
        ([1], [1, 2], None, r"as many items before as after and at least one: \(1, 1\), \(1, 2\), \(1, 1\)"),
        ([1, 2], [1, 2], [1], r"\(1, 2\), \(1, 2\), \(1, 1\)"),
        ([1], [1], [0], "the sizes sum to nothing"),
        ([1, float("nan")], [1, 1], None, "not finite"),
        ([1, 1], [1, float("inf")], None, "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(before, after, sizes, said):
    with pytest.raises(ValueError, match=said):
        paired(before, after, sizes)


def test_fewer_than_eight_items_decide_nothing():
    assert paired([1.0] * 7, [0.0] * 7).verdict("lower") == "undecided"
    assert paired([1.0] * 8, [0.0] * 8).verdict("lower") == "better"


def test_runs_that_measured_the_same_are_as_one():
    one = paired([1, 2, 3, 4], [2, 4, 3, 7])
    three = paired([[1, 2, 3, 4]] * 3, [[2, 4, 3, 7]] * 3)
    assert (three.n, three.before, three.after) == (4, one.before, one.after)
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=0.3)  # other draws


def test_the_interval_covers_the_choice_of_runs_too():
    """No item differs from another: what is left is which of the three runs are drawn, 0, 0 and 3."""
    found = paired([[0] * 50] * 3, [[0] * 50, [0] * 50, [3] * 50])
    assert found.difference == 1
    assert (found.low, found.high) == (0, 3)  # no run of 3, with (2/3)^3, or it alone, with 1/27 > 2.5 %


def test_runs_weigh_by_their_sizes():
    """(1 * 10 + 4 * 30) / 40, by hand."""
    found = paired([[0, 0], [0, 0]], [[5, 5], [60, 60]], [[5, 5], [15, 15]])
    assert found.difference == 130 / 40
