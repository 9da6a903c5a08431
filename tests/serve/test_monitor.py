"""Monitoring of served traffic: each alarm rings for what it is for, and is silent where all is as it was."""

import random
from dataclasses import replace
from math import log2, sqrt

import numpy as np
import pytest

from turnsmith.errors import UsageError
from turnsmith.evaluation.statistics import student
from turnsmith.serve.drift import divergence, drifted
from turnsmith.serve.monitor import Turn, mean, monitored

HOUR = 3600.0
ASKED = ("How do I bake bread?", "What is a good soup?", "Which cheese goes with wine?", "Is rice a grain?")
OTHERS = ("My invoice is wrong.", "Cancel the contract.", "Where is the refund?", "The router blinks red.")
REPLIES = ("It takes some flour and time.", "Try another one.", "That depends on what is at hand.")


def hour(number, rng, *, count=60, prompts=ASKED, **given):
    """The turns of an hour: lengths of 20 to 60 tokens, ratings of 1 to 5, a refusal and a cut in 20."""
    made = []
    for _ in range(count):
        at = number * HOUR + rng.random() * (HOUR - 1)
        refused, cut = rng.random() < 0.05, rng.random() < 0.05
        made.append(
            Turn(
                at,
                "tuned",
                rng.choice(prompts),
                "I'm sorry, but I can't do that." if refused else rng.choice(REPLIES),
                rng.randint(20, 60),
                "length" if cut else "stop",
                float(rng.randint(1, 5)),
            )
        )
    return [replace(turn, **given) for turn in made]


def day(seed, hours=5, **last):
    """Hours that are alike, and a last one that may differ."""
    rng = random.Random(seed)
    before = [turn for number in range(hours) for turn in hour(number, rng)]
    newest = hour(hours, rng, **last)
    edge = replace(newest[0], at=(hours + 1) * HOUR)  # so that windows are whole hours
    return [*before, *newest, edge]


CASES = {
    "longer": ({"tokens": 60}, "Replies are longer: 60.0 tokens"),
    "shorter": ({"tokens": 20}, "Replies are shorter: 20.0 tokens"),
    "refused": ({"refused": True}, "More replies are refused: 100.0% refusals"),
    "cut": ({"finish": "length"}, "More replies end at the limit: 100.0% cut replies"),
    "rated": ({"rating": 1.0}, "Replies are rated lower: 1.00"),
    "asked": ({"prompts": OTHERS}, "What people ask has drifted"),
    "more": ({"count": 300}, "Turns: 301 in the newest window, more than the 60 that were usual"),
    "fewer": (
        {"hours": 12, "count": 10},
        "Turns: 11 in the newest window, fewer than the 60 that were usual",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_alarm_rings_for_what_it_is_for_and_no_other_does(case):
    given, said = CASES[case]
    found = monitored(day(1, **given), window_seconds=HOUR)
    assert found.retrain == (case in ("rated", "asked"))
    first, *more = found.alarms
    assert first.startswith(said)
    assert more == (
        ["Train anew on recent turns, and compare before the new model is served."] * found.retrain
    )


def test_where_nothing_has_changed_nothing_rings():
    """At level 0.99 one in a hundred healthy days may ring; of 25 more than one would be odd."""
    rung = [monitored(day(seed), window_seconds=HOUR).alarms for seed in range(25)]
    assert sum(map(bool, rung)) <= 1


def test_a_refusal_that_somebody_judged_counts_as_judged_and_others_by_their_words():
    rng = random.Random(0)
    turns = [replace(turn, reply="I'm sorry, but I can't do that.") for turn in hour(0, rng, count=10)]
    judged = [replace(turn, refused=False) for turn in turns]
    for given, expected in ((turns, 1.0), (judged, 0.0)):
        (window,) = monitored(given, window_seconds=HOUR).windows
        assert window.refusals is not None
        assert window.refusals.value == expected


def test_windows_end_with_the_newest_turn_and_empty_ones_are_there():
    turns = [replace(hour(0, random.Random(0), count=1)[0], at=at) for at in (0.0, 50.0, 250.0, 349.0, 350.0)]
    found = monitored(turns, window_seconds=100.0)
    assert [(one.start, one.end, one.turns) for one in found.windows] == [
        (-50.0, 50.0, 2),
        (50.0, 150.0, 0),
        (150.0, 250.0, 1),
        (250.0, 350.0, 2),
    ]
    assert found.windows[1].length is None
    assert found.turns == 5


def test_means_have_students_interval():
    """1 to 9: mean 5, s = sqrt(60 / 8), t on 8 degrees of freedom, over sqrt(9)."""
    found = mean([float(n) for n in range(1, 10)], 0.95)
    reach = student(0.95, 8) * sqrt(7.5) / 3
    assert (found.value, found.low, found.high) == pytest.approx((5, 5 - reach, 5 + reach))
    assert mean([1.0] * 7, 0.95).low is None  # 7 are too few
    assert mean([], 0.95) is None


def test_shares_of_none_and_all_are_not_taken_for_certain():
    """Eight zeros, with a made-up 0 and 1: s^2 = (9 * 0.01 + 0.81) / 9 = 0.1, over 10."""
    found = mean([0.0] * 8, 0.95)
    assert found.high == pytest.approx(student(0.95, 7) * sqrt(0.1 / 10))


def test_without_anything_before_nothing_is_compared():
    found = monitored(hour(0, random.Random(0)), window_seconds=HOUR)
    assert (found.reference, found.drift, found.alarms) == (None, None, ())


def test_a_reference_of_ones_own_is_what_is_compared_with():
    quiet = [turn for number in range(5) for turn in hour(number, random.Random(3))]
    later = hour(100, random.Random(4), prompts=OTHERS)
    assert monitored(later, window_seconds=HOUR).alarms == ()
    found = monitored(later, window_seconds=HOUR, reference=quiet)
    assert found.retrain
    assert found.reference is not None
    assert found.reference.turns == 300


def test_few_turns_ring_nothing():
    rng = random.Random(0)
    turns = [*hour(0, rng, count=7), *hour(1, rng, count=7, prompts=OTHERS, rating=1.0, tokens=500)]
    assert monitored(turns, window_seconds=HOUR).alarms == ()


@pytest.mark.parametrize(("turns", "seconds"), [([], HOUR), (hour(0, random.Random(0)), 0.0)])
def test_what_cannot_be_looked_at_is_refused(turns, seconds):
    with pytest.raises(UsageError, match=r"there is no turn|a window lasts 0.0 s"):
        monitored(turns, window_seconds=seconds)


def test_windows_without_end_are_refused():
    turns = [
        replace(one, at=at) for one, at in zip(hour(0, random.Random(0), count=2), (0.0, 1e9), strict=True)
    ]
    with pytest.raises(UsageError, match="make them longer"):
        monitored(turns, window_seconds=1.0)


# ------------------------------------------------------------------------------------------ divergence


@pytest.mark.parametrize(("one", "other", "expected"), [
    ([1, 0], [0, 1], 1.0),  # nothing in common
    ([1, 3], [2, 6], 0.0),  # the same shares
    # p = (1/2, 1/2), q = (1, 0), m = (3/4, 1/4): H(m) - H(p) / 2 = 2 - 3/4 log2 3 - 1/2
    ([1, 1], [1, 0], 1.5 - 0.75 * log2(3)),
    # p = (1/4, 3/4), q = (3/4, 1/4), m = (1/2, 1/2): 1 - H(1/4) = 1 - (2 - 3/4 log2 3)
    ([1, 3], [3, 1], 0.75 * log2(3) - 1),
])  # fmt: skip
def test_the_divergence_is_that_of_the_formula(one, other, expected):
    found = divergence(np.array(one, float), np.array(other, float))
    assert float(found) == pytest.approx(expected, abs=1e-12)
    assert float(divergence(np.array(other, float), np.array(one, float))) == pytest.approx(float(found))


def test_words_that_are_said_more_often_are_named():
    found = drifted(["rain and snow"] * 20, ["rain and gold"] * 20)
    assert found is not None
    assert found.words == ("gold",)
    assert found.divergence == pytest.approx(1 / 3)  # a third of the words has nothing in common
    assert found.divergence > found.threshold


def test_chance_alone_is_no_drift():
    """The same prompts on both sides, in another order: at a level of 0.95 some of 40 may be beyond it."""
    beyond = 0
    for seed in range(40):
        rng = random.Random(seed)
        sides = [[rng.choice(ASKED) for _ in range(30)] for _ in range(2)]
        found = drifted(sides[0], sides[1], level=0.95, seed=seed)
        assert found is not None
        beyond += found.divergence > found.threshold
    assert beyond <= 6  # 2 are expected; more than 6 have a probability below 1 %


def test_without_words_or_with_few_prompts_there_is_no_drift():
    assert drifted(["a"] * 7, ["b"] * 20) is None
    assert drifted(["?"] * 20, ["b"] * 20) is None
