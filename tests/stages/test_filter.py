"""Stages that leave examples out."""

import pytest

from turnsmith.errors import UsageError
from turnsmith.stages.filter import head, turns
from turnsmith.testing import chat
from turnsmith.types import Example


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


@pytest.mark.parametrize(("count", "kept"), [(0, []), (1, ["two"]), (9, ["two", "four"])])
def test_the_first_are_kept(count, kept):
    assert [one.id for one in head([TWO, FOUR], count=count)] == kept


def test_a_negative_count_is_refused():
    with pytest.raises(UsageError, match="-1 is negative"):
        list(head([TWO, FOUR], count=-1))
