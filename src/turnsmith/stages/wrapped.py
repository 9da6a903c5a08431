"""Stages that give answers another form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Message


@stage("wrapped")
def wrapped(data: Sequence[Example], *, before: str = "", after: str = "") -> Iterator[Example]:
    """Put a text before and one after every reply of the assistant, in all parts.

    What is said of tokens and places in a reply (ids, spans) is no longer true of it, and is left out.
    """

    def message(one: Message) -> Message:
        if one.role != "assistant":
            return one
        return replace(one, content=f"{before}{one.content}{after}", ids=None, logprobs=None, spans=())

    def conversation(one: Conversation) -> Conversation:
        return replace(one, messages=tuple(map(message, one.messages)))

    for example in data:
        parts = {
            name: tuple(map(conversation, part)) if isinstance(part, tuple) else conversation(part)
            for name, part in example.parts.items()
        }
        yield example.replaced(**parts)
