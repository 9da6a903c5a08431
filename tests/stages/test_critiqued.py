"""Critiques behind answers."""

from collections import Counter

import pytest

from turnsmith.errors import DataError
from turnsmith.scorers.critic import REQUEST
from turnsmith.stages.critiqued import critiqued
from turnsmith.testing import chat
from turnsmith.types import Example

ENDS = {"chosen": chat("u: 2 + 2?", "a: 4"), "rejected": chat("u: 2 + 2?", "a: 5")}


def made(parts=ENDS, **meta):
    counts: Counter[str] = Counter()
    (found,) = critiqued([Example(parts, {}, {"id": "a", **meta})], counts=counts)
    return found, counts


def test_a_pair_gets_the_request_and_what_is_said_of_each_answer():
    found, counts = made(chosen_reason="Right.", rejected_reason="Off by 1.")
    assert [one.content for one in found.parts["rejected"].messages] == ["2 + 2?", "5", REQUEST, "Off by 1."]
    assert found.parts["chosen"].messages[-1].content == "Right."
    assert [one.weight for one in found.parts["chosen"].messages] == [0.0, 0.0, None, None]
    assert found.values == {"critiqued": 1.0, "tied": 0.0}
    assert not counts


def test_a_pair_with_one_critique_stays_as_it_is_and_is_counted():
    found, counts = made(chosen_reason="Right.", rejected_reason="", is_tie=True)
    assert found.parts == ENDS
    assert found.values == {"critiqued": 0.0, "tied": 1.0}
    assert counts == {"pairs without two critiques": 1}


def test_several_replies_get_theirs_in_order():
    found, _ = made({"replies": tuple(ENDS.values())}, reasons=["Right.", "Wrong."])
    assert [one.messages[-1].content for one in found.parts["replies"]] == ["Right.", "Wrong."]


def test_what_is_no_text_or_not_one_for_each_reply_is_refused():
    with pytest.raises(DataError, match="'chosen_reason' of its metadata holds 3, and no text"):
        made(chosen_reason=3, rejected_reason="x")
    for reasons in (["one"], "two", None):
        with pytest.raises(DataError, match="no list of one for each reply"):
            made({"replies": tuple(ENDS.values())}, reasons=reasons)
    with pytest.raises(DataError, match="one is missing"):
        made({"replies": tuple(ENDS.values())}, reasons=["one", None])
