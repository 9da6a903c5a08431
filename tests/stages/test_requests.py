"""Requests and replies with the topics that they touch."""

from random import Random

import pytest

from turnsmith.errors import UsageError
from turnsmith.stages.requests import REFUSAL, TOPICS, requests

NAMED = {topic for topic in TOPICS if topic}


def made(**options):
    return list(requests([], **{"count": 200, **options}, rng=Random(0)))


def test_a_request_violates_the_topic_whose_words_it_has():
    found = made()
    assert [one.id for one in found[:2]] == ["requests-0", "requests-1"]
    for one in found:
        (message,) = one.parts["text"].messages
        topics = {
            topic for topic, things in TOPICS.items() if any(thing in message.content for thing in things)
        }
        assert topics - {""} == set(one.meta["violated"])
    assert {name for one in found for name in one.meta["violated"]} == NAMED


@pytest.mark.parametrize(("unsafe", "low", "high"), [(0.0, 0, 0), (1.0, 200, 200), (0.5, 75, 125)])
def test_the_share_that_touches_a_topic_is_as_asked_for(unsafe, low, high):
    assert low <= sum(bool(one.meta["violated"]) for one in made(unsafe=unsafe)) <= high


def test_check_8_a_reply_that_refuses_violates_nothing_whatever_it_was_asked():
    refusals = others = 0
    for one in made(replies=1.0, unsafe=1.0):
        _, reply = one.parts["text"].messages
        assert reply.role == "assistant"
        refused = reply.content == REFUSAL
        assert (one.meta["violated"] == []) == refused
        refusals, others = refusals + refused, others + (not refused)
    assert min(refusals, others) > 60


@pytest.mark.parametrize("wrong", [{"replies": 1.5}, {"unsafe": -0.1}])
def test_shares_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match="requests: replies is"):
        made(**wrong)
