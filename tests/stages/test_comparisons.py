"""All pairs of replies to a prompt."""

from collections import Counter

import pytest

from turnsmith.errors import DataError
from turnsmith.stages.comparisons import every_pair, verdicts
from turnsmith.testing import chat
from turnsmith.types import Example


def replies(id, *rewards):
    ones = tuple(chat("u: Hi", f"a: reply {number}") for number in range(len(rewards)))
    return Example({"text": ones[0], "replies": ones}, {"reward": rewards, "rating": 2.0}, {"id": id})


def made(*data, **options):
    counts = Counter()
    pairs = list(every_pair(data, counts=counts, **options))
    said = [
        (one.id, *(one.parts[part].messages[-1].content[-1] for part in ("chosen", "rejected")))
        for one in pairs
    ]
    return pairs, said, counts


def test_n_replies_make_every_pair_with_the_better_one_chosen():
    pairs, said, counts = made(replies("a", 1.0, 3.0, 2.0))
    assert said == [("a/1-0", "1", "0"), ("a/2-0", "2", "0"), ("a/1-2", "1", "2")]
    assert [one.values for one in pairs] == [{"rating": 2.0, "margin": margin} for margin in (2.0, 1.0, 1.0)]
    assert not counts


def test_equal_rewards_make_no_pair_and_are_counted():
    _, said, counts = made(replies("a", 1.0, 1.0, 1.0))
    assert said == []
    assert counts == {"pairs no more than 0 apart": 3}


def test_pairs_that_are_not_far_enough_apart_are_left_out_and_counted():
    _, said, counts = made(replies("a", 1.0, 3.0, 2.0), least=1.0)
    assert said == [("a/1-0", "1", "0")]
    assert counts == {"pairs no more than 1 apart": 2}


def test_one_reply_makes_no_pair_and_is_counted():
    _, said, counts = made(replies("a", 1.0), replies("b", 0.0, 1.0))
    assert said == [("b/1-0", "1", "0")]
    assert counts == {"have one reply, and no pair": 1}


def test_replies_without_their_rewards_are_an_error():
    bare = Example({"replies": (chat("u: Hi", "a: x"),)}, {}, {"id": "a"})
    with pytest.raises(DataError, match="'a' has no 'reward' for each of its 'replies'"):
        made(bare)
    with pytest.raises(DataError, match="'a' has no several conversations 'answers'; it has replies"):
        made(bare, of="answers")


def test_a_pair_becomes_a_wanted_answer_and_one_that_is_not():
    (pair,), _, _ = made(replies("a", 1.0, 3.0))
    ones = list(verdicts([pair]))
    assert [(one.id, one.values["label"]) for one in ones] == [("a/1-0/chosen", 1.0), ("a/1-0/rejected", 0.0)]
    assert [one.parts["text"].messages[-1].content for one in ones] == ["reply 1", "reply 0"]
    assert [one.values["rating"] for one in ones] == [2.0, 2.0]


def test_what_is_no_pair_has_no_verdicts():
    with pytest.raises(DataError, match="no conversation 'chosen'"):
        list(verdicts([replies("a", 1.0)]))
