"""Sums whose answers are off by known amounts, and labels that are wrong where a judge is unsure."""

import re
from random import Random

import pytest

from turnsmith.errors import UsageError
from turnsmith.stages.sum_answers import misjudged, sum_answers
from turnsmith.testing import conversations


def test_answers_are_off_by_as_much_as_their_rank_says():
    for one in sum_answers([], count=20, most=12, of=4, off=5, rng=Random(0)):
        replies = one.parts["replies"]
        total = sum(map(int, re.findall(r"\d+", replies[0].messages[0].content)))
        said = [int(re.findall(r"-?\d+", reply.messages[1].content)[0]) for reply in replies]
        off = [abs(value - total) for value in said]
        assert off == list(one.values["rank"]) == [-reward for reward in one.values["reward"]]
        assert 0 in off
        assert len(set(off)) == 4
        assert max(off) <= 5
        for reason, value, far in zip(one.meta["reasons"], said, off, strict=True):
            end = f"it is off by {far}." if far else "it is right."
            assert reason.endswith(f"is {total}. The answer says {value}: {end}")


def test_too_many_answers_are_refused():
    with pytest.raises(UsageError, match="of is 7, off 5"):
        list(sum_answers([], count=1, of=7, off=5, rng=Random(0)))


def test_a_share_of_the_pairs_is_turned_round_and_the_judge_is_unsure_of_these():
    given = conversations(10, parts=("chosen", "rejected"))
    made = list(misjudged(given, share=0.3, rng=Random(0)))
    for before, after in zip(given, made, strict=True):
        turned = after.parts["chosen"] == before.parts["rejected"]
        assert after.parts["rejected"] == before.parts["chosen" if turned else "rejected"]
        assert after.values["flipped"] == turned
        low, high = (0.0, 0.5) if turned else (2.0, 6.0)
        assert low <= after.values["margin"] <= high
    assert sum(one.values["flipped"] for one in made) == 3


def test_a_share_beyond_1_is_refused():
    with pytest.raises(UsageError, match=r"misjudged: share is 1\.5"):
        list(misjudged([], share=1.5, rng=Random(0)))
