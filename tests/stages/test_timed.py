"""Chats with time stamps in slices of time. Card 34."""

from collections import Counter

import pytest

from turnsmith.data.formats.chitchat import chitchat, stamped
from turnsmith.errors import DataError, UsageError
from turnsmith.stages.timed import joined, timed
from turnsmith.types import Conversation, Example, Message


def chat(*said, stamps=None):
    """said: role, text, second."""
    messages = tuple(
        Message({"u": "user", "a": "assistant", "s": "system"}[role], text) for role, text, _ in said
    )
    times = [second for role, _, second in said if role != "s"] if stamps is None else stamps
    return Example({"text": Conversation(messages)}, {}, {"id": "a", "stamps": times})


def pairs(example, **options):
    counts = Counter()
    (made,) = timed([example], counts=counts, **options)
    texts = [message.content for message in made.parts["text"].messages]
    return list(zip(texts[::2], texts[1::2], strict=True)), counts


def test_words_fall_into_the_slices_in_which_they_were_finished():
    # "aaa bbb ccc " is 12 characters, at 2 a second typed from -6 to 0: words end at -4, -2 and 0.
    # "ddd eee " is 8: from 6 to 10, words end at 8 and 10; nobody types from 2 to 8.
    found, counts = pairs(chat(("u", "aaa bbb ccc", 0.0), ("a", "ddd eee", 10.0)), seconds=2.0, rate=2.0)
    assert found == [("aaa", ""), ("bbb", ""), ("ccc", ""), ("", "ddd"), ("", "eee"), ("", "")]
    assert counts["slices in which both speak"] == 0


def test_who_types_at_once_speaks_at_once():
    # The user's second message is typed from 6 to 10, as the assistant's is: words end at 8 and 10.
    said = chat(("u", "hi", 0.0), ("a", "ddd eee", 10.0), ("u", "fff ggg", 10.0))
    found, counts = pairs(said, seconds=2.0, rate=2.0)
    assert found == [("hi", ""), ("fff", "ddd"), ("ggg", "eee"), ("", "")]
    assert counts["slices in which both speak"] == 2


def test_a_message_is_typed_after_the_last_one_of_its_sender_and_an_answer_after_the_question():
    # 8 characters at 2 a second would begin at -3: the assistant has heard nothing before 0, so words end at
    # 0.5 and 1. The user's next message begins at 0 and not at -2.5: words end at 0.75 and 1.5.
    said = chat(("u", "hi", 0.0), ("a", "ddd eee", 1.0), ("u", "fff ggg", 1.5))
    found, _ = pairs(said, seconds=0.5, rate=2.0)
    # "hi " took 1.5 seconds and ended at 0, in the slice that begins there.
    assert found == [("hi", ""), ("fff", "ddd"), ("", "eee"), ("ggg", ""), ("", "")]


def test_all_that_was_said_is_there_and_a_system_text_too():
    said = chat(("s", "Be brief.", 0.0), ("u", "one two", 0.0), ("u", "three", 1.0), ("a", "four\nfive", 9.0))
    (made,) = timed([said], counts=Counter())
    system, *rest = made.parts["text"].messages
    assert system == Message("system", "Be brief.")
    assert [message.role for message in rest] == ["user", "assistant"] * (len(rest) // 2)
    for role, words in (("user", "one two three"), ("assistant", "four five")):
        assert " ".join(one.content for one in rest if one.role == role and one.content) == words
    assert made.meta["kind"] == "timed"
    assert (made.meta["stops"], made.meta["resumes"]) == ([], [])


@pytest.mark.parametrize("stamps", [None, [0.0], [1.0, 0.0], [0.0, "later"], "0 1"])
def test_a_chat_without_times_is_refused(stamps):
    said = chat(("u", "hi", 0.0), ("a", "yes", 1.0), stamps=stamps)
    if stamps is None:
        said.meta.pop("stamps")
    with pytest.raises(
        DataError, match=r"example 'a' has no time for each of its 2 messages.*chitchat-stamped"
    ):
        pairs(said)


@pytest.mark.parametrize("option", ["seconds", "rate"])
def test_times_that_are_none_are_refused(option):
    with pytest.raises(UsageError, match="both have to be above 0"):
        pairs(chat(("u", "hi", 0.0)), **{option: 0.0})


def row(*said):
    return {
        "start": "2018-05-11T02:16:37Z",
        "messages": [[{"text": t, "timestamp": f"2018-05-10T20:{s}Z", "sender": who}] for who, t, s in said],
    }


def test_the_stamped_form_has_each_message_and_its_second():
    found = stamped(
        row(("x", "good", "16:57"), ("y", " ", "16:58"), ("y", "hey", "17:03"), ("y", "you", "17:04"))
    )
    assert [(one.role, one.content) for one in found.parts["text"].messages] == [
        ("user", "good"),
        ("assistant", "hey"),
        ("assistant", "you"),
    ]
    assert found.meta == {"people": ["x", "y"], "stamps": [0.0, 6.0, 7.0]}
    turns = chitchat(row(("x", "good", "16:57"), ("y", "hey", "17:03"), ("y", "you", "17:04")))
    assert [one.content for one in turns.parts["text"].messages] == ["good", "hey\nyou"]


def test_messages_stand_in_the_order_of_their_times():
    found = stamped(row(("x", "one", "10:00"), ("x", "three", "10:09"), ("y", "two", "10:05")))
    assert [one.content for one in found.parts["text"].messages] == ["one", "two", "three"]
    assert found.meta["stamps"] == [0.0, 5.0, 9.0]


def test_joined_messages_are_those_of_the_form_without_times():
    said = row(("x", "good", "16:57"), ("y", "hey", "17:03"), ("y", "you", "17:04"), ("x", "yes", "17:09"))
    apart = stamped(said)
    system = Message("system", "Be brief.")
    text = Conversation((system, *apart.parts["text"].messages))
    (made,) = joined([Example({"text": text}, {}, {**apart.meta, "id": "a"})])
    whole = chitchat(said)
    assert made.parts["text"].messages == (system, *whole.parts["text"].messages)
    assert made.meta == {**whole.meta, "id": "a"}
