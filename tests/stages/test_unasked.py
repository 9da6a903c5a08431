"""Texts that nobody asked for: how they are made, and how a model writes them."""

from collections import Counter

import pytest

from turnsmith.errors import UsageError
from turnsmith.evaluation.tasks.novelty import domain
from turnsmith.stages.unasked import write
from turnsmith.testing import stage, subject
from turnsmith.types import Failure, Message, Reply, Usage


def test_a_mixture_has_the_domains_by_their_shares_and_they_are_told_apart():
    shares = {"latin": 0.9, "greek": 0.06, "code": 0.02, "private": 0.02}
    made = list(stage("mixture", {"count": 200, "shares": shares})([]))
    assert Counter(one.meta["domain"] for one in made) == {"latin": 180, "greek": 12, "code": 4, "private": 4}
    for one in made:
        empty, text = one.parts["text"].messages
        assert (empty.role, empty.content) == ("user", "")
        assert ("private" if "Halcyon" in text.content else domain(text.content)) == one.meta["domain"]
        assert one.values["novel"] == (one.meta["domain"] != "latin")


@pytest.mark.parametrize("shares", [{"klingon": 1.0}, {}, {"latin": -1.0}])
def test_shares_of_nothing_known_are_refused(shares):
    with pytest.raises(UsageError, match="mixture"):
        list(stage("mixture", {"count": 3, "shares": shares})([]))


def test_texts_have_a_least_length_and_answer_nothing():
    counts = Counter()
    made = list(write([], by=subject().chat, count=6, least=5, most=9, counts=counts))
    assert made
    for one in made:
        asked, text = one.parts["text"].messages
        assert asked.content == ""
        assert 5 <= len(text.ids) <= 9
    assert len(made) + sum(counts.values()) == 6
    assert len({one.parts["text"].messages[1].ids for one in made}) > 1  # equal prompts, other draws


def test_what_could_not_be_written_or_says_nothing_is_left_out_and_counted():
    said = [
        Reply(Message("assistant", "yes"), "stop", Usage(1, 1)),
        Reply(Message("assistant", " "), "stop", Usage(1, 1)),
        Reply(Message("assistant", "ye"), "stuck", Usage(1, 1)),
        Failure("it is away"),
    ]
    counts = Counter()
    made = list(write([], by=lambda conversations, sampling: said, count=4, counts=counts))
    assert [one.parts["text"].messages[1].content for one in made] == ["yes"]
    assert sorted(counts) == [
        "could not be written: it is away",
        "ended before the least length, where nothing else could come",
        "say nothing",
    ]


def test_a_least_length_above_the_most_is_refused():
    with pytest.raises(UsageError, match="least is 9 and most is 3"):
        list(write([], by=subject().chat, count=1, least=9, most=3, counts=Counter()))
