"""A model that is interrupted in its answer."""

from dataclasses import replace

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.evaluation.tasks.interrupted import Interrupted
from turnsmith.testing import TinyBench, subject
from turnsmith.types import Conversation, Example, Failure, Message, Reply, Usage


def example(id, *said):
    roles = ("user", "assistant")
    return Example(
        {"text": Conversation(tuple(Message(roles[n % 2], text) for n, text in enumerate(said)))},
        {},
        {"id": id},
    )


CHAT = example(
    "a", "one two three", "no", "four five", "no"
)  # said "one two", "three"; then "Wait. four", "five"


def measured(script, *chats, **options):
    """script: what the model says, by the first word that the user said, slice by slice."""
    heard = []

    def chat(conversations, sampling, seed):
        replies = []
        for one in conversations:
            mine = script[one.messages[0].content.split()[0]]
            heard.append([message.content for message in one.messages])
            text = mine.pop(0)
            replies.append(
                Failure(text[1:])
                if text.startswith("!")
                else Reply(Message("assistant", text), "stop", Usage(1, 1))
            )
        return replies

    bench = TinyBench({"chats": list(chats or (CHAT,))})
    items = Interrupted(on="chats", words=2, **options).measure(replace(subject(), chat=chat), bench)
    return items, heard


def values(*script, **options):
    (item,), _ = measured({"one": list(script)}, **options)
    return dict(item.values)


def test_it_is_interrupted_after_two_slices_of_its_answer():
    (item,), heard = measured({"one": ["", "", "x", "y", ""]})
    assert heard[-1] == ["one two", "", "three", "", "", "x", "", "y", "Wait. four"]
    assert item.values == {"answers": 1, "begins": 1, "goes on": 0, "stops": 1}


def test_who_goes_on_is_heard_until_the_user_has_said_all():
    assert values("", "", "x", "y", "z", "") == {"answers": 1, "begins": 1, "goes on": 1, "stops": 1}
    assert values("", "", "x", "y", "z", "z") == {"answers": 1, "begins": 1, "goes on": 2, "stops": 0}


def test_who_begins_with_the_last_words_begins_at_once():
    assert values("", "x", "y", "") == {"answers": 1, "begins": 0, "goes on": 0, "stops": 1}
    assert values("x", "x", "y", "", after=2) == {"answers": 1, "begins": 0, "goes on": 0, "stops": 1}


def test_who_never_begins_does_not_answer_and_who_is_done_is_not_interrupted():
    assert values("", "", "") == {"answers": 0}
    assert values("x", "", "") == {"answers": 0}  # what was said before the question was over is no answer
    assert values("", "", "x", "") == {"answers": 1, "begins": 1}


def test_chats_go_side_by_side_and_one_that_fails_is_no_figure():
    other = example("b", "uno dos", "no", "tres", "no")
    short = example("c", "alone", "yes")
    items, _ = measured({"one": ["", "", "x", "y", ""], "uno": ["", "!too long"]}, CHAT, short, other)
    assert [item.id for item in items] == ["a", "b"]
    assert items[0].values["stops"] == 1
    assert (items[1].failed, items[1].values) == ("too long", {})
    items, _ = measured({"one": ["", "", ""], "uno": []}, CHAT, other, count=1)
    assert [item.id for item in items] == ["a"]


def test_data_and_options_that_will_not_do_are_refused():
    with pytest.raises(DataError, match="no chat of 'chats' has two messages of the user"):
        measured({}, example("c", "alone", "yes"))
    with pytest.raises(UsageError, match="both have to be 1 or more"):
        Interrupted(on="chats", words=0)
