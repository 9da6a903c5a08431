"""Stages that leave examples out."""

from collections import Counter

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.stages.filter import answered, best, endings, head, letters, turns
from turnsmith.testing import chat
from turnsmith.types import Example, Message


def example(name, *said, **parts):
    return Example(parts or {"text": chat(*said)}, {}, {"id": name})


TWO = example("two", "u: a", "a: b")
FOUR = example("four", "s: Be kind.", "u: a", "a: b", "u: c", "a: d")
MIXED = example("mixed", chosen=FOUR.parts["text"], rejected=TWO.parts["text"])
SEVERAL = example("several", prompt=FOUR.parts["text"], replies=(FOUR.parts["text"], TWO.parts["text"]))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, ["two", "four", "mixed", "several"]),
        ({"least": 3}, ["four"]),  # every part must have so many
        ({"least": 5}, []),  # the system message does not count
        ({"most": 3}, ["two"]),
        ({"least": 2, "most": 4}, ["two", "four", "mixed", "several"]),
    ],
)
def test_conversations_are_kept_by_the_messages_of_every_part(options, kept):
    assert [one.id for one in turns([TWO, FOUR, MIXED, SEVERAL], **options)] == kept


def test_what_is_kept_is_untouched():
    assert list(turns([FOUR])) == [FOUR]


@pytest.mark.parametrize(
    ("most", "kept"),
    [(1, []), (2, ["two"]), (11, ["two"]), (12, ["two", "four", "mixed", "several"])],  # Be kind. a b c d
)
def test_texts_are_kept_by_the_characters_of_every_part_and_the_others_counted(most, kept):
    counts = Counter()
    found = [one.id for one in letters([TWO, FOUR, MIXED, SEVERAL], most=most, counts=counts)]
    assert found == kept
    assert counts == ({f"longer than {most} characters": 4 - len(kept)} if len(kept) < 4 else {})


def test_no_characters_at_all_are_refused():
    with pytest.raises(UsageError, match="'letters' keeps texts of up to `most` characters: 0"):
        list(letters([TWO], most=0, counts=Counter()))


@pytest.mark.parametrize(("count", "kept"), [(0, []), (1, ["two"]), (9, ["two", "four"])])
def test_the_first_are_kept(count, kept):
    assert [one.id for one in head([TWO, FOUR], count=count)] == kept


def test_a_negative_count_is_refused():
    with pytest.raises(UsageError, match="-1 is negative"):
        list(head([TWO, FOUR], count=-1))


def rated(*rewards):
    return [
        Example({"text": chat("u: a", "a: b")}, {"reward": one}, {"id": f"{n}"})
        for n, one in enumerate(rewards)
    ]


@pytest.mark.parametrize(
    ("share", "kept"),
    [(0.2, ["1"]), (0.4, ["1", "3"]), (0.6, ["0", "1", "3"]), (1.0, ["0", "1", "2", "3", "4"])],
)
def test_the_best_are_kept_in_their_order_and_of_equals_the_earlier(share, kept):
    assert [one.id for one in best(rated(0.5, 2.0, -1.0, 1.0, 0.5), share=share)] == kept


def test_a_share_that_is_none_and_a_value_that_is_not_there_are_refused():
    with pytest.raises(UsageError, match="share is 0"):
        list(best(rated(1.0), share=0))
    with pytest.raises(DataError, match="has no value 'rating' that is one number; it has reward"):
        list(best(rated(1.0), share=0.5, by="rating"))


def test_what_says_nothing_goes_with_what_it_answers_and_is_counted():
    counts = Counter()
    data = [
        example("whole", "u: a", "a: b"),
        example("late", "s: Be kind.", "u: a", "a: b", "u: c", "u: d", "a:  "),
        example("early", "u: a", "a: ", "u: c", "a: d"),
        example("mute", "u: a", "a: "),
    ]
    found = list(answered(data, counts=counts))
    assert [one.id for one in found] == ["whole", "late", "early"]
    assert [[m.content for m in one.parts["text"].messages] for one in found] == [
        ["a", "b"],
        ["Be kind.", "a", "b"],
        ["c", "d"],
    ]
    assert counts == {"assistant messages that say nothing": 3}


def test_calls_and_sampled_tokens_say_something():
    silent = chat("u: a").then(Message("assistant", "", ids=(2,)))
    one = Example({"text": silent}, {}, {"id": "x"})
    assert list(answered([one, MIXED], counts=Counter())) == [one, MIXED]


@pytest.mark.parametrize(
    ("messages", "kept"), [(1, ["Be kind.", "d"]), (3, ["Be kind.", "c", "d"]), (9, ["Be kind.", *"abcd"])]
)
def test_the_end_of_a_conversation_begins_with_a_user_and_keeps_its_system_text(messages, kept):
    (made, both) = endings([FOUR, SEVERAL], messages=messages)
    assert [one.content for one in made.parts["text"].messages] == kept
    assert both.parts["replies"][0] == made.parts["text"]


def test_an_ending_of_no_messages_is_refused():
    with pytest.raises(UsageError, match="0 is none"):
        list(endings([FOUR], messages=0))
