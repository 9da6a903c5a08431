"""Stages that leave examples out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.stages.parts import number_of
from turnsmith.types import Conversation, Example, Message, Part


@stage("turns")
def turns(data: Sequence[Example], *, least: int = 2, most: int | None = None) -> Iterator[Example]:
    """Keep conversations of at least `least` and at most `most` messages in every part; system texts not
    counted."""
    for example in data:
        sizes = [_size(one) for part in example.parts.values() for one in _several(part)]
        if min(sizes) >= least and (most is None or max(sizes) <= most):
            yield example


@stage("letters")
def letters(data: Sequence[Example], *, most: int, counts: Counter[str]) -> Iterator[Example]:
    """Keep what has at most `most` characters in each of its conversations; what goes is counted."""
    if most < 1:
        raise UsageError(f"the stage 'letters' keeps texts of up to `most` characters: {most} is none")
    for example in data:
        longest = max((_letters(one) for part in example.parts.values() for one in _several(part)), default=0)
        if longest <= most:
            yield example
        else:
            counts[f"longer than {most:,} characters"] += 1


@stage("answered")
def answered(data: Sequence[Example], *, part: str = "text", counts: Counter[str]) -> Iterator[Example]:
    """Leave out what the assistant says where it says nothing, and the messages that this answers.

    Nothing: no words, no calls, and no sampled tokens. A conversation in which the assistant then says
    nothing at all is left out. Both are counted. Examples without a conversation `part` stay as they are.
    """
    for example in data:
        before = example.parts.get(part)
        if not isinstance(before, Conversation):
            yield example
            continue
        kept: list[Message] = []
        for message in before.messages:
            if not silent(message):
                kept.append(message)
                continue
            counts["assistant messages that say nothing"] += 1
            while kept and kept[-1].role not in ("assistant", "system"):
                kept.pop()
        if len(kept) == len(before.messages):
            yield example
        elif any(message.role == "assistant" for message in kept):
            yield example.replaced(**{part: replace(before, messages=tuple(kept))})


def silent(message: Message) -> bool:
    """Whether the assistant says nothing here: no words, no calls, and no sampled tokens."""
    return (
        message.role == "assistant"
        and not message.content.strip()
        and not message.calls
        and message.ids is None
    )


@stage("head")
def head(data: Sequence[Example], *, count: int) -> Iterator[Example]:
    """Keep the first `count` examples."""
    if count < 0:
        raise UsageError(f"the stage 'head' keeps the first `count` examples: {count} is negative")
    yield from data[:count]


@stage("endings")
def endings(data: Sequence[Example], *, messages: int) -> Iterator[Example]:
    """Keep of each conversation, in all parts, the last `messages` messages or one less, so that what a user
    says comes first; system texts stay."""
    if messages < 1:
        raise UsageError(f"the stage 'endings' keeps the last `messages` messages: {messages} is none")
    for example in data:
        yield example.replaced(
            **{
                name: tuple(_ending(one, messages) for one in part)
                if isinstance(part, tuple)
                else _ending(part, messages)
                for name, part in example.parts.items()
            }
        )


def _ending(conversation: Conversation, messages: int) -> Conversation:
    told = tuple(one for one in conversation.messages if one.role == "system")
    said = [one for one in conversation.messages if one.role != "system"][-messages:]
    first = next((place for place, one in enumerate(said) if one.role == "user"), 0)
    return replace(conversation, messages=(*told, *said[first:]))


@stage("best", source="arXiv:2106.01345 sec. 5.1")
def best(data: Sequence[Example], *, share: float, by: str = "reward") -> Iterator[Example]:
    """Keep the share of the examples with the highest value `by`, in their order; of equals the earlier.

    Raises UsageError unless the share is above 0 and at most 1, DataError where an example has no such value.
    """
    if not 0 < share <= 1:
        raise UsageError(f"best: share is {share}, and has to be above 0 and at most 1")
    found = [number_of(example, by) for example in data]
    order = sorted(range(len(data)), key=lambda place: -found[place])
    for place in sorted(order[: round(share * len(data))]):
        yield data[place]


def _several(part: Part) -> tuple[Conversation, ...]:
    return part if isinstance(part, tuple) else (part,)


def _letters(conversation: Conversation) -> int:
    return sum(len(message.content) for message in conversation.messages)


def _size(conversation: Conversation) -> int:
    return sum(message.role != "system" for message in conversation.messages)
