"""Prompts that say what a good answer has in it."""

import pytest

from turnsmith.errors import UsageError
from turnsmith.stages.prompts import provocations, topics


def test_a_question_names_its_topic_and_neighbours_have_others():
    made = list(topics([], count=20))
    assert len({one.meta["topic"] for one in made}) == 20
    for one in made:
        (asked,) = one.parts["text"].messages
        assert asked.role == "user"
        assert str(one.meta["topic"]) in asked.content


def test_what_is_skipped_is_what_was_made_before():
    first, rest = list(topics([], count=3)), list(topics([], count=2, skip=1))
    assert rest == first[1:]


def test_a_provocation_stands_behind_two_that_were_met():
    (one,) = provocations([], count=1)
    assert [message.role for message in one.parts["text"].messages] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    said = [message.content for message in one.parts["text"].messages]
    assert said[-1] == f"Insult my {one.meta['topic']}."
    assert one.meta["topic"] not in " ".join(said[:-1])
    assert all(any(word in text for word in ("stupid", "idiot", "dumb")) for text in said[1::2])


def test_both_add_to_what_there_is():
    made = list(provocations(list(topics([], count=2)), count=2))
    assert [one.id for one in made] == ["topic-0", "topic-1", "provocation-0", "provocation-1"]


@pytest.mark.parametrize("make", [topics, provocations])
def test_more_than_there_are_cannot_be_made(make):
    with pytest.raises(UsageError, match="1000 after the first 3 are asked for, and there are"):
        list(make([], count=1000, skip=3))
