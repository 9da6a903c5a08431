"""Stages that leave examples out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.types import Conversation, Example


@stage("turns")
def turns(data: Sequence[Example], *, least: int = 2, most: int | None = None) -> Iterator[Example]:
    """Keep conversations of at least `least` and at most `most` messages in every part; system texts not
    counted."""
    for example in data:
        conversations = [
            one for part in example.parts.values() for one in (part if isinstance(part, tuple) else (part,))
        ]
        sizes = [_size(one) for one in conversations]
        if min(sizes) >= least and (most is None or max(sizes) <= most):
            yield example


@stage("head")
def head(data: Sequence[Example], *, count: int) -> Iterator[Example]:
    """Keep the first `count` examples."""
    if count < 0:
        raise UsageError(f"the stage 'head' keeps the first `count` examples: {count} is negative")
    yield from data[:count]


def _size(conversation: Conversation) -> int:
    return sum(message.role != "system" for message in conversation.messages)
