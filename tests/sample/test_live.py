"""A conversation in slices of time. Card 34."""

import pytest

from turnsmith.errors import DataError
from turnsmith.sample.live import IDLE, Live, tidied
from turnsmith.types import Conversation, Message, Reply, Usage


def slices(*pairs, system=()):
    return Conversation(
        (*system, *(Message(r, t) for p in pairs for r, t in zip(("user", "assistant"), p, strict=True)))
    )


class Scripted:
    """Says these texts one after the other; notes what it was asked."""

    def __init__(self, *texts):
        self.texts, self.asked = list(texts), []

    def stream(self, conversation, *, sampling=None, seed=0):
        self.asked.append([message.content for message in conversation.messages])
        text = self.texts.pop(0)
        if text is None:
            raise DataError("the prompt has too many tokens")
        yield from text.split()
        return Reply(Message("assistant", text), "stop", Usage(1, 1))


def said(live):
    return [message.content for message in live.said.messages]


def test_slices_in_which_nobody_spoke_go_and_all_that_was_said_stays():
    system = (Message("system", ""),)
    whole = slices(
        (IDLE, IDLE),
        ("a", IDLE),
        (IDLE, "b"),
        (IDLE, IDLE),
        (IDLE, IDLE),
        ("c", "d"),
        (IDLE, IDLE),
        system=system,
    )
    kept = slices(("a", IDLE), (IDLE, "b"), ("c", "d"), system=system)
    assert tidied(whole) == kept
    assert tidied(kept) == kept
    assert tidied(Conversation(())) == Conversation(())
    unanswered = Conversation((*kept.messages, Message("user", IDLE)))
    assert tidied(unanswered) == unanswered


def test_while_nobody_has_spoken_the_model_is_not_called():
    chat, live = Scripted(), Live()
    for _ in range(3):
        assert list(live.stream(chat, IDLE)) == []
    assert chat.asked == []
    assert said(live) == []


def test_the_model_is_asked_until_both_are_silent():
    chat, live = Scripted(IDLE, "red is", "a colour", IDLE), Live()
    pieces = [list(live.stream(chat, text)) for text in ("what is red", IDLE, " ", IDLE, IDLE, IDLE)]
    assert pieces == [[], ["red", "is"], ["a", "colour"], [], [], []]
    assert chat.asked == [
        ["what is red"],
        ["what is red", "", ""],
        ["what is red", "", "", "red is", ""],
        ["what is red", "", "", "red is", "", "a colour", ""],
    ]
    assert said(live) == ["what is red", "", "", "red is", "", "a colour"]
    assert not live.on


def test_who_speaks_again_is_heard_again():
    chat, live = Scripted("yes", IDLE, "what"), Live()
    for text in ("hello", IDLE, IDLE, "wait"):
        list(live.stream(chat, text))
    assert chat.asked[-1] == ["hello", "yes", "wait"]
    assert live.on


def test_a_silent_model_is_asked_again_while_the_user_speaks():
    chat, live = Scripted(IDLE, IDLE, " "), Live()
    for text in ("one", "two", IDLE):
        list(live.stream(chat, text))
    assert len(chat.asked) == 3
    assert said(live) == ["one", "", "two", ""]  # a blank is no word
    assert not live.on


def test_what_typed_marks_say_is_only_text():
    chat, live = Scripted("b"), Live()
    list(live.stream(chat, "<idle>"))
    assert chat.asked == [["<idle>"]]


@pytest.mark.parametrize("stop", ["fails", "given up"])
def test_a_slice_that_is_not_answered_is_not_remembered(stop):
    chat, live = Scripted("yes", None if stop == "fails" else "a b"), Live()
    list(live.stream(chat, "hello"))
    before = said(live), live.on
    stream = live.stream(chat, "more")
    if stop == "fails":
        with pytest.raises(DataError, match="too many tokens"):
            list(stream)
    else:
        assert next(stream) == "a"
        stream.close()
    assert (said(live), live.on) == before
