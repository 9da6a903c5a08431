"""Shares of comparisons won and strengths behind them, against values worked out by hand."""

from math import log, sqrt

import pytest

from turnsmith.evaluation.preferences import Compared, shares, strengths
from turnsmith.evaluation.statistics import student

EIGHT = [1, 1, 1, 1, 1, 1, 0, 0]


def duel(won, first="a", second="b", prefix="", person="ann"):
    return [Compared(f"{prefix}{at}", person, first, second, one) for at, one in enumerate(won)]


def test_a_share_and_its_interval_are_those_worked_out_by_hand():
    found = shares(duel(EIGHT))["a", "b"]
    assert (found.comparisons, found.wins, found.ties, found.losses, found.n) == (8, 6, 0, 2, 8)
    assert found.value == 0.75
    # With a win and a loss made up: 7 of 10, variance 10 * .7 * .3 / 9 = .23333, error sqrt(.023333) =
    # .152753, times t on 7 degrees of freedom, 2.364624, is .361203; the upper end would be beyond 1.
    assert found.low == pytest.approx(0.388797, abs=1e-5)
    assert found.high == 1


def test_the_other_order_is_the_mirror_image():
    found = shares(duel(EIGHT))
    assert found["b", "a"].value == 0.25
    assert found["b", "a"].high == pytest.approx(1 - found["a", "b"].low, abs=1e-12)
    assert (found["b", "a"].wins, found["b", "a"].losses) == (2, 6)


def test_a_message_counts_once_however_many_judge_it():
    compared = [*duel([1]), *duel([1], person="bob"), *duel([0], person="cat"), *duel([0], prefix="x")]
    found = shares(compared)["a", "b"]
    assert (found.comparisons, found.n) == (4, 2)
    assert found.value == pytest.approx((2 / 3 + 0) / 2, abs=1e-12)


def test_ties_are_halves_and_few_messages_have_no_interval():
    found = shares(duel([0.5, 1, 0.5]))["a", "b"]
    assert found.value == pytest.approx(2 / 3, abs=1e-12)
    assert (found.wins, found.ties, found.losses) == (1, 2, 0)
    assert (found.low, found.high) == (None, None)


def test_messages_that_all_agree_are_not_certain():
    found = shares(duel([1] * 8))["a", "b"]
    # 9 of 10: variance 10 * .9 * .1 / 9 = .1, error .1
    assert found.low == pytest.approx(1 - student(0.95, 7) * 0.1, abs=1e-12)


def test_strengths_of_two_models_are_the_log_of_their_odds():
    first, second = strengths(duel(EIGHT))
    apart = 400 / log(10) * log(6.5 / 2.5)  # half a win more for each
    assert (first.model, second.model) == ("a", "b")
    assert first.points - second.points == pytest.approx(apart, abs=1e-9)
    assert first.points + second.points == pytest.approx(2000, abs=1e-9)
    assert (first.n, first.wins, second.wins) == (8, 6, 2)


def test_the_interval_of_a_strength_is_that_worked_out_by_hand():
    chance = 6.5 / 9
    scores = 6 * (1 - chance) ** 2 + 2 * chance**2 + chance * (1 - chance)  # the last: of what is made up
    curvature = 9 * chance * (1 - chance)
    error = sqrt(scores / curvature**2 * 8 / 7) / 2  # a strength is half of the difference
    first, _ = strengths(duel(EIGHT))
    reach = 400 / log(10) * student(0.95, 7) * error
    assert first.high - first.points == pytest.approx(reach, abs=1e-6)
    assert first.points - first.low == pytest.approx(reach, abs=1e-6)


def test_models_in_a_row_are_as_far_apart_as_their_neighbours_say():
    found = strengths([*duel([1, 1, 1, 0]), *duel([1, 1, 1, 0], "b", "c", prefix="x")])
    step = 400 / log(10) * log(3.5 / 1.5)
    assert [one.model for one in found] == ["a", "b", "c"]
    assert [one.points for one in found] == pytest.approx([1000 + step, 1000, 1000 - step], abs=1e-6)


def test_who_won_all_is_strong_and_not_infinitely_so():
    first, _ = strengths(duel([1] * 1000))
    assert first.points == pytest.approx(1000 + 200 / log(10) * log(1000.5 / 0.5), abs=1e-6)


def test_models_that_were_never_compared_are_in_groups_of_their_own():
    found = strengths([*duel([1, 0]), *duel([0], "c", "a", prefix="x"), *duel([1], "e", "d", prefix="y")])
    assert [(one.model, one.group) for one in found] == [("a", 0), ("b", 0), ("c", 0), ("e", 1), ("d", 1)]
    assert sum(one.points for one in found[3:]) == pytest.approx(2000, abs=1e-9)


def test_nothing_compared_gives_nothing():
    assert shares([]) == {}
    assert strengths([]) == []
