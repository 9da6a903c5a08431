"""Examples to rows: what a format can say is written, and what it cannot is named.

A format that can be written has a `Writer`: a function that makes a row, and the limits of the format. A
limit takes away what the format cannot say, before the row is made; an example that it changes has lost that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from operator import is_
from typing import Any

from turnsmith.data.loss_control import silent
from turnsmith.data.messages import KEYS
from turnsmith.errors import DataError
from turnsmith.types import IMAGE, Conversation, Example, Json, Message, Part, Span

Border = Callable[[Example], int]


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that a format cannot say. without: the example without it, or as it is where it has none."""

    name: str
    without: Callable[[Example], Example]


@dataclass(frozen=True, slots=True)
class Writer:
    """Makes the rows of a format: called with an example, it gives a row and the names of what is lost.

    row: the columns of the format itself, of an example without anything beyond the limits; raises DataError
    where the format has no place for the example at all. used: the columns that the format reads; columns of
    the example with such a name are lost. values: the values that `row` writes; others become columns. meta:
    keys of meta that `row` turns into something else; others stay columns.
    """

    row: Callable[[Example], dict[str, Json]]
    used: tuple[str, ...]
    limits: tuple[Limit, ...] = ()
    values: tuple[str, ...] = ()
    meta: tuple[str, ...] = ()

    def __call__(self, example: Example) -> tuple[dict[str, Json], tuple[str, ...]]:
        lost: list[str] = []
        for limit in (*self.limits, *_columns(self.used, self.values)):
            less = limit.without(example)
            if less is not example and less != example:
                lost.append(limit.name)
                example = less
        rest = {key: value for key, value in example.meta.items() if key not in ("id", *self.meta)}
        return {"id": example.id, **self.row(example), **rest}, tuple(lost)


# ------------------------------------------------------------------------------- limits of many formats


def of_messages(name: str, change: Callable[[Message], Message]) -> Limit:
    """A limit of single messages, wherever they are. change: gives the message itself where it is within, so
    that nothing is made anew for the many that are."""

    def inside(conversation: Conversation) -> Conversation:
        changed = tuple(map(change, conversation.messages))
        same = all(map(is_, changed, conversation.messages))
        return conversation if same else replace(conversation, messages=changed)

    return of_conversations(name, inside)


def of_conversations(name: str, change: Callable[[Conversation], Conversation]) -> Limit:
    """A limit of single conversations, wherever they are."""

    def part(given: Part) -> Part:
        if not isinstance(given, tuple):
            return change(given)
        changed = tuple(map(change, given))
        return given if all(map(is_, changed, given)) else changed

    def inside(example: Example) -> Example:
        changed = {key: part(one) for key, one in example.parts.items()}
        same = all(changed[key] is one for key, one in example.parts.items())
        return example if same else replace(example, parts=changed)

    return Limit(name, inside)


def without(name: str, /, **empty: Any) -> Limit:
    """A limit of messages that have something else than `empty` in these attributes."""

    def change(message: Message) -> Message:
        there = any(getattr(message, key) != value for key, value in empty.items())
        return replace(message, **empty) if there else message

    return of_messages(name, change)


def fields_but(taken: frozenset[str]) -> Limit:
    """Keys of messages that would be read as something else, or, being null, not at all."""

    def change(message: Message) -> Message:
        kept = {k: v for k, v in message.fields.items() if k not in taken and v is not None}
        return message if len(kept) == len(message.fields) else replace(message, fields=kept)

    return of_messages("keys of messages that the format uses itself", change)


SAMPLED = (without("token ids of sampled messages", ids=None), without("log-probs", logprobs=None))
WEIGHTS = without("weights of messages", weight=None)
SPANS = without("weights of spans", spans=())
FIELDS = without("keys of messages", fields={})
CALLS = without("calls", calls=())
CALL_IDS = of_messages(
    "ids of calls",
    lambda m: (
        replace(m, call_id=None, calls=tuple(replace(call, id=None) for call in m.calls))
        if m.call_id is not None or m.calls
        else m
    ),
)
NAMES = without("names of speakers", name=None)
THINKING = without("thinking", thinking=None)


def _unseen(message: Message) -> Message:
    """The message without its images, its spans where their characters are now."""
    if not message.images:
        return message

    def at(place: int) -> int:
        return place - message.content.count(IMAGE, 0, place)

    spans = tuple(Span(at(span.start), at(span.end), span.weight) for span in message.spans)
    return replace(message, content=message.content.replace(IMAGE, ""), images=(), spans=spans)


IMAGES = of_messages("images", _unseen)
TOOLS = of_conversations("tools", lambda c: replace(c, tools=()) if c.tools else c)
BARE = (
    IMAGES,
    SPANS,
    *SAMPLED,
    FIELDS,
    CALLS,
    CALL_IDS,
    NAMES,
    THINKING,
    TOOLS,
)  # of formats that have texts only
OPENAI = (*SAMPLED, fields_but(KEYS))  # of formats that have messages as OpenAI writes them


def before(border: Border) -> tuple[Limit, Limit]:
    """The limits of a format in which nothing before the answer learns unless it says so itself."""

    def quiet(answers: bool) -> Callable[[Example], Example]:
        def change(example: Example) -> Example:
            stop = border(example)
            return _each(example, lambda c: _quiet(c, stop, answers))

        return change

    return (
        Limit("earlier answers that learn", quiet(True)),
        Limit("questions whose weight was open (now they never learn)", quiet(False)),
    )


def _quiet(given: Conversation, stop: int, answers: bool) -> Conversation:
    quiet = silent(given, stop).messages
    pairs = zip(given.messages, quiet, strict=True)
    return replace(
        given, messages=tuple(new if (old.role == "assistant") == answers else old for old, new in pairs)
    )


def _each(example: Example, change: Callable[[Conversation], Conversation]) -> Example:
    return of_conversations("", change).without(example)


@cache
def _columns(used: tuple[str, ...], values: tuple[str, ...]) -> tuple[Limit, ...]:
    """What is beside the parts: columns stay columns, and values become some, if no other has the name."""

    def distinct(example: Example) -> Example:
        taken = {*used, *values}
        kept = {key: value for key, value in example.meta.items() if key not in taken}
        return example if len(kept) == len(example.meta) else replace(example, meta=kept)

    def own(example: Example) -> Example:
        taken = {*used, *example.meta} - set(values)
        kept = {key: one for key, one in example.values.items() if key not in taken}
        return example if len(kept) == len(example.values) else replace(example, values=kept)

    def moved(example: Example) -> Example:
        kept = {key: one for key, one in example.values.items() if key in values}
        rest = {key: one for key, one in example.values.items() if key not in values}
        return replace(example, values=kept, meta={**example.meta, **rest}) if rest else example

    return (
        Limit("columns that the format uses itself", distinct),
        Limit("values of which a column has the name", own),
        Limit("values (kept as columns)", moved),
    )


# ------------------------------------------------------------------------------- what a row is made of


def single(example: Example, part: str = "text") -> Conversation:
    """The one conversation that the example has.

    Raises DataError where it has other parts, or several conversations in this one.
    """
    found = example.parts.get(part)
    if len(example.parts) != 1 or not isinstance(found, Conversation):
        several = " (several conversations)" if isinstance(found, tuple) else ""
        there = ", ".join(example.parts) or "none"
        raise DataError(f"it takes one conversation, the part {part!r}; there is {there}{several}")
    return found


def answer(conversation: Conversation) -> int:
    """Where the last answer is. Raises DataError where nothing is asked, or nothing answered."""
    if not conversation.answers:
        raise DataError(f"it needs a question and an answer; the roles are {roles(conversation)}")
    return conversation.answers[-1]


def opening(example: Example) -> int:
    """Where the last answer of the part `text` is."""
    return answer(single(example))


def open_again(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Messages that do not learn because of where they stand need not say so."""
    return tuple(replace(m, weight=None) if m.weight == 0 else m for m in messages)


def roles(conversation: Conversation) -> str:
    """The roles in order, in quotes, for errors."""
    return repr(" ".join(message.role for message in conversation.messages))


def value_of(example: Example, name: str) -> float:
    """A number that the format cannot do without."""
    if name not in example.values:
        there = ", ".join(example.values) or "none"
        raise DataError(f"it needs the value {name!r}; the values are: {there}")
    value = example.values[name]
    if isinstance(value, tuple):
        raise DataError(f"it needs one number as {name!r}, and this example has {len(value)} of them")
    return value
