"""Chats with time stamps in slices of time: who typed what when, both at once where they did (card 34)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf

from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage
from turnsmith.stages.duplex import RESUMES, SILENCE, STOPS, Slice, conversation
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Example, Json, Message, is_list

STAMPS = "stamps"  # of the metadata: the second at which each message was sent


@stage("timed", source="arXiv:2406.15718 sec. 3, on times of real chats")
def timed(
    data: Sequence[Example],
    *,
    seconds: float = 4.0,
    rate: float = 5.0,
    part: str = "text",
    counts: Counter[str],
) -> Iterator[Example]:
    """Lay chats whose messages were sent at known times out in slices of so many seconds.

    A message was typed evenly, at `rate` characters a second, until it was sent; it is begun later, and
    typed faster, where its sender sent another one meanwhile or, as the assistant, had not heard anything
    yet. A word is said in the slice in which it was finished. So both may speak in one slice, which is
    counted. Slices in which nobody does are left out, as they are when a model is talked to, but for one at
    the end.

    The metadata `stops` and `resumes` are empty: people who are interrupted go on as often as not, which is
    no mark of what a model should do. Raises DataError for an example without a time for each message
    (metadata `stamps`, in seconds; `format: chitchat-stamped` has them), or whose times run backwards.
    """
    if min(seconds, rate) <= 0:
        raise UsageError(f"timed: seconds is {seconds} and rate is {rate}: both have to be above 0")
    for example in data:
        text = conversation_of(example, part)
        system = [one for one in text.messages if one.role == "system"]
        said = [one for one in text.messages if one.role != "system"]
        slices = _slices(said, _stamps(example, len(said)), seconds, rate)
        counts["slices in which both speak"] += sum(bool(one.user and one.assistant) for one in slices)
        meta: dict[str, Json] = {**example.meta, "kind": "timed", STOPS: [], RESUMES: []}
        yield Example({part: conversation([*slices, SILENCE], system)}, example.values, meta)


@stage("joined")
def joined(data: Sequence[Example], *, part: str = "text") -> Iterator[Example]:
    """Join the messages that one side sent in a row by newlines, as one message; their times go."""
    for example in data:
        text = conversation_of(example, part)
        said: list[Message] = []
        for message in text.messages:
            if said and said[-1].role == message.role in ("user", "assistant"):
                said[-1] = replace(said[-1], content=f"{said[-1].content}\n{message.content}")
            else:
                said.append(message)
        meta = {name: value for name, value in example.meta.items() if name != STAMPS}
        yield Example({**example.parts, part: replace(text, messages=tuple(said))}, example.values, meta)


def _slices(said: Sequence[Message], stamps: Sequence[float], seconds: float, rate: float) -> list[Slice]:
    free = {"user": -inf, "assistant": stamps[0] if stamps else 0.0}  # from when each could type
    typed: dict[int, dict[str, list[str]]] = defaultdict(lambda: {"user": [], "assistant": []})
    for message, sent in zip(said, stamps, strict=True):
        words = message.content.split()
        left = sum(map(len, words)) + len(words)  # a blank after each
        took = min(left / rate, sent - free[message.role])
        size = left
        for word in words:
            left -= len(word) + 1
            typed[int((sent - took * left / size) // seconds)][message.role].append(word)
        free[message.role] = sent
    return [Slice(" ".join(one["user"]), " ".join(one["assistant"])) for _, one in sorted(typed.items())]


def _stamps(example: Example, size: int) -> list[float]:
    found = example.meta.get(STAMPS)
    stamps = [float(one) for one in found if isinstance(one, int | float)] if is_list(found) else []
    if len(stamps) != size or stamps != sorted(stamps):
        raise DataError(
            f"example {example.id!r} has no time for each of its {size} messages, in order, in its metadata "
            f"`{STAMPS}`: read data that has them, such as chitchat with `format: chitchat-stamped`"
        )
    return stamps
