"""The scripted seeker, sentence by sentence."""

import pytest

from turnsmith.agents.seeker import ACCEPTED, SeekerAgent
from turnsmith.types import Conversation, Failure, Message

SEEKER = SeekerAgent(aspects=("hoppy", "smooth", "sour"))


def says(*heard, told="i42 smooth", own=()):
    """What it says after hearing these, having said `own`."""
    messages = [Message("system", told)]
    for number, text in enumerate(heard):
        messages += [Message("assistant", one) for one in own[number : number + 1]] + [Message("user", text)]
    (reply,) = SEEKER([Conversation(tuple(messages))])
    return reply.message.content


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        ("How about i7? It is sour, smooth and hoppy.", "Not so hoppy."),
        ("How about i7? It is smooth and sour.", "Not so sour."),
        ("How about i7? It is smooth.", "Another one, please."),
        ("How about i4? It is smooth.", "Another one, please."),
        ("How about i42? It is sour.", f"Yes, {ACCEPTED}."),
    ],
)
def test_4_it_criticises_the_first_aspect_that_is_named_and_not_wanted(heard, said):
    assert says(heard) == said


def test_4_it_says_nothing_twice():
    heard = ["How about i7? It is hoppy and sour."] * 2
    assert says(*heard, own=("Not so hoppy.", "Not so sour.")) == "Another one, please."
    assert says(*heard, own=("Not so hoppy.",)) == "Not so sour."


def test_it_asks_first():
    (reply,) = SEEKER([Conversation((Message("system", "i42"),))])
    assert reply.message.content == "What do you recommend?"


def test_who_wants_nothing_fails():
    (reply,) = SEEKER([Conversation((Message("user", "How about i7?"),))])
    assert isinstance(reply, Failure)
