"""Stages that make a small world of things and their kinds, and a language of their own to speak of it in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Literal

from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Message

KINDS = {
    "animal": ("dog", "cat", "horse", "rabbit", "sheep", "lion", "monkey", "duck", "cow", "goat"),
    "fruit": ("banana", "peach", "grape", "lemon", "cherry", "melon", "mango", "plum", "pear", "fig"),
    "tool": ("hammer", "saw", "drill", "shovel", "rake", "wrench", "chisel", "pliers", "spade", "file"),
    "vehicle": ("car", "bus", "train", "truck", "bicycle", "boat", "tram", "van", "taxi", "plane"),
    "drink": ("coffee", "tea", "milk", "juice", "beer", "wine", "cocoa", "lemonade", "water", "cider"),
    "garment": ("shirt", "coat", "dress", "skirt", "sock", "scarf", "glove", "jacket", "sweater", "hat"),
}
STATEMENTS = (
    "{thing} is a kind of {kind}.",
    "Every {thing} is a {kind}, and a {other} is not.",
    "What is a {thing}? It is a {kind}.",
    "Among the things that count as {kind} there is the {thing}.",
)
# The letters that stand for those of English: each vowel for the next, each consonant for the next but one.
CIPHERS = {
    "vowels": str.maketrans("aeiou", "eioua"),
    "all": str.maketrans("aeioubcdfghjklmnpqrstvwxyz", "eiouadfghjklmnpqrstvwxyzbc"),
}


@stage("kinds")
def kinds(data: Sequence[Example], *, count: int, rng: Random) -> Iterator[Example]:
    """Add `count` questions whether a thing is of a kind, half of them to be answered with yes."""
    yield from data
    for number in range(count):
        kind, other = rng.sample(list(KINDS), 2)
        thing = rng.choice(KINDS[kind])
        right = rng.random() < 0.5
        asked = kind if right else other
        question = Message("user", f"Is the {thing} a kind of {asked}?")
        answer = Message("assistant", "yes" if right else "no")
        yield Example({"text": Conversation((question, answer))}, {}, {"id": f"kinds-{number}"})


@stage("statements")
def statements(data: Sequence[Example], *, count: int, sentences: int = 4, rng: Random) -> Iterator[Example]:
    """Add `count` texts of so many true sentences on things and their kinds, in which nobody asks."""
    yield from data
    for number in range(count):
        text = " ".join(_statement(rng) for _ in range(sentences))
        yield Example({"text": Conversation((Message("text", text),))}, {}, {"id": f"statements-{number}"})


@stage("recoded")
def recoded(data: Sequence[Example], *, letters: Literal["vowels", "all"] = "all") -> Iterator[Example]:
    """Exchange every word, but for those of the assistant, for another, by exchanging its letters.

    letters: which of them; with the vowels alone it is a language near to English, with all a far one. The
    words that come of it stand for the same as the English ones, and are no English. What is said of
    tokens and places in a text (ids, spans) is no longer true of it, and is left out.
    """
    for example in data:
        parts = {
            name: tuple(_recoded(one, letters) for one in part)
            if isinstance(part, tuple)
            else _recoded(part, letters)
            for name, part in example.parts.items()
        }
        yield example.replaced(**parts)


def _recoded(conversation: Conversation, letters: Literal["vowels", "all"]) -> Conversation:
    messages = (
        message
        if message.role == "assistant"
        else replace(message, content=cipher(message.content, letters), spans=(), ids=None, logprobs=None)
        for message in conversation.messages
    )
    return replace(conversation, messages=tuple(messages))


def cipher(text: str, letters: Literal["vowels", "all"] = "all") -> str:
    """The text with these letters exchanged, large ones for large ones.

    >>> cipher("Is the Hammer a tool?"), cipher("Is the Hammer a tool?", "vowels")
    ('Ov wki Keppit e wuun?', 'Os thi Hemmir e tuul?')
    """
    found = (letter.lower().translate(CIPHERS[letters]) for letter in text)
    return "".join(new.upper() if old.isupper() else new for old, new in zip(text, found, strict=True))


def _statement(rng: Random) -> str:
    kind, another = rng.sample(list(KINDS), 2)
    thing, other = rng.choice(KINDS[kind]), rng.choice(KINDS[another])
    return rng.choice(STATEMENTS).format(thing=thing, kind=kind, other=other)
