"""Paired differences: point values and widths by hand, verdicts by direction. Coverage: test_coverage.py."""

import math
import time

import numpy as np
import pytest

from turnsmith.evaluation.statistics import Difference, judged, over_runs, paired, reduced, student, sums


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


def test_of_two_items_the_interval_is_that_of_one_degree_of_freedom():
    # 1 and 3: mean 2, standard error sqrt(2 / 2) = 1, t 12.706.
    found = paired([0, 0], [1, 3])
    assert (found.difference, found.low, found.high) == pytest.approx((2, 2 - 12.7062, 2 + 12.7062), abs=1e-3)


def test_one_item_has_no_interval():
    found = paired([1], [2])
    assert (found.low, found.high, found.verdict("higher")) == (-math.inf, math.inf, "undecided")
    assert "one item has no spread" in found.note


def test_items_are_resampled_with_both_sides_together():
    """Items differ wildly and change by the same: unpaired, the interval would be wide."""
    before = np.random.default_rng(0).normal(0, 100, 50)
    found = paired(before.tolist(), (before + 1).tolist())
    assert found.low == pytest.approx(1)
    assert found.high == pytest.approx(1)


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
    """No item differs from another: 0, 0, 3 have mean 1 and standard error sqrt(3 / 3) = 1; t is 4.3027."""
    found = paired([[0] * 50] * 3, [[0] * 50, [0] * 50, [3] * 50])
    assert (found.difference, found.low, found.high) == pytest.approx((1, 1 - 4.3027, 1 + 4.3027), abs=1e-4)


def test_two_runs_are_said_to_know_little():
    found = paired([[0] * 50] * 2, [[1.0] * 50, [1.2] * 50])
    # 1 and 1.2: standard error 0.1, t 12.7062
    assert found.high - found.difference == pytest.approx(1.27062, abs=1e-4)
    assert "two runs" in found.note
    assert found.verdict("higher") == "undecided"


def test_runs_that_agree_widen_nothing():
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 60))
    one, three = paired(before, after), paired([before] * 3, [after] * 3)
    assert (three.low, three.high) == pytest.approx((one.low, one.high), rel=1e-9)
    assert (three.runs, one.runs) == (3, 1)


def test_items_and_runs_add_in_squares():
    """Figures of runs 1, 2 and 3: standard error 1 / sqrt(3). No item has anything of its own in all runs."""
    wave = np.resize([1.0, -1.0], 40)
    change = np.array([1 + wave, 2 - wave, 3 + 0 * wave])  # items' means over runs are all 2
    found = paired(np.zeros((3, 40)), change)
    assert found.high - 2 == pytest.approx(4.3027 / 3**0.5, abs=1e-4)


def test_outcomes_that_all_agree_are_not_taken_for_certain():
    """30 pairs without a change, and the two made up: variance (1 + 1) / 31 over 32; t of 29 is 2.0452."""
    found = paired([1] * 30, [1] * 30)
    assert found.difference == 0
    assert found.high == pytest.approx(2.0452 * (2 / 31 / 32) ** 0.5, abs=1e-4)


def test_the_figure_of_one_model_over_seeds():
    """0.5, 0.6 and 0.7 in every item: standard error 0.1 / sqrt(3), t 4.3027."""
    found = over_runs([[0.5] * 20, [0.6] * 20, [0.7] * 20])
    assert (found.n, found.runs, found.value) == (20, 3, pytest.approx(0.6))
    assert found.high - 0.6 == pytest.approx(4.3027 * 0.1 / 3**0.5, abs=1e-4)


def test_a_share_that_is_one_has_an_interval():
    """30 of 30, one failure made up beside one success: 31 of 32; variance 31/32 * 1/32 * 32/31 over 32."""
    found = over_runs([1] * 30)
    assert (found.value, found.n) == (1, 30)
    assert found.value - found.low == pytest.approx(2.0452 / 32, abs=1e-4)


def test_a_mean_by_leaving_out_is_the_mean():
    rng = np.random.default_rng(0)
    before, after, size = rng.exponential(size=(3, 25))
    first, second = ([lambda times, side=side: times @ side / (times @ size)] for side in (before, after))
    one, other = sums(before, after, size), reduced(first, second, 25)
    assert (one.before, one.after) == pytest.approx((other.before, other.after))
    assert one.parts - one.parts.mean() == pytest.approx(other.parts - other.parts.mean())


def test_runs_of_a_reduced_figure_differ_as_far_as_their_figures_do():
    """Of a mean, which is a reducer too, all is as it is of sums: the runs' own differences among it."""
    rng = np.random.default_rng(3)
    before, after = rng.random((3, 25)), rng.random((3, 25)) + np.array([[0.1], [0.5], [0.2]])

    def mean(row):
        return lambda times: (times @ row) / times.sum(1)

    one, other = sums(before, after), reduced([mean(row) for row in before], [mean(row) for row in after], 25)
    assert other.parts == pytest.approx(one.parts)
    assert other.parts.mean(1) == pytest.approx((after - before).mean(1))
    (wanted,), (found,) = judged([one]), judged([other])
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_a_figure_that_hangs_on_one_item_has_no_interval():
    only = [lambda times: np.where(times[:, 3] > 0, 1.0, np.nan)]
    (found,) = judged([reduced(only, only, 9, ids=list("abcdefghi"))])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert found.note == "without item 'd' there is no figure: there is no interval"


def normals(count, n=40, seed=0):
    rng = np.random.default_rng(seed)
    return [sums(np.zeros(n), rng.normal(0.3, 1, n), ids=[f"{k}"] * n) for k in range(count)]


def test_differences_judged_together_say_so_and_are_wider():
    alone = [judged([one])[0] for one in normals(10)]
    found = judged(normals(10))
    assert {one.comparisons for one in found} == {10}
    assert {one.comparisons for one in alone} == {1}
    # c of ten independent differences is about Student's at 1 - 0.05 / 10 on 39 degrees, 2.98 against 2.02.
    ratios = [
        (one.high - one.low) / (other.high - other.low) for one, other in zip(found, alone, strict=True)
    ]
    assert 1.35 < min(ratios) <= max(ratios) < 1.65


def test_differences_that_are_the_same_cost_nothing_to_judge_together():
    """Resampled jointly, five copies have the largest |t*| of one."""
    (one,) = normals(1)
    assert judged([one] * 5)[2].high == pytest.approx(judged([one])[0].high)


def test_seeds_of_several_differences_are_corrected_too():
    """Student's on 2 degrees at 1 - 0.05 / 2: 6.2053 instead of 4.3027."""
    one = sums([[0] * 50] * 3, [[0] * 50, [0] * 50, [3] * 50])
    assert judged([one, one])[0].high - 1 == pytest.approx(6.2053, abs=1e-3)


def test_groups_too_small_to_decide_are_not_counted_among_the_comparisons():
    small = sums([0, 0, 0], [1, 2, 4])
    found = judged([*normals(2), small])
    assert [one.comparisons for one in found] == [2, 2, 1]
    assert found[2].note == "fewer than 8 items decide nothing"


@pytest.mark.parametrize(
    ("level", "freedom", "value"),
    [(0.95, 1, 12.7062), (0.95, 3, 3.1824), (0.95, 4, 2.7764), (0.95, 9, 2.2622), (0.99, 2, 9.9248),
     (0.9, 30, 1.6973), (0.95, 120, 1.9799)],
)  # fmt: skip
def test_students_quantiles_are_those_of_the_tables(level, freedom, value):
    assert student(level, freedom) == pytest.approx(value, abs=5e-5)


def test_four_thousand_resamples_of_four_hundred_items_are_fast():
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 400))
    started = time.process_time()
    paired(before, after, rng.integers(1, 9, 400), seed=99)
    assert time.process_time() - started < 0.2


def test_runs_weigh_by_their_sizes():
    """(1 * 10 + 4 * 30) / 40, by hand."""
    found = paired([[0, 0], [0, 0]], [[5, 5], [60, 60]], [[5, 5], [15, 15]])
    assert found.difference == 130 / 40
