"""A stage that tells, before each answer, what kind of answer it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from turnsmith.data.cells import unpacked
from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Message, Part, is_list, is_object

SHARES = ("quality", "humor", "creativity")  # means of what people said, from 0 to 1
EACH = 5  # words for each step of a length


@stage("described", source="LAION-AI/Open-Assistant, custom_datasets/formatting.py")
def described(
    data: Sequence[Example],
    *,
    dropout: float = 0.5,
    length: bool = True,
    rng: Random,
    counts: Counter[str],
) -> Iterator[Example]:
    """Put a system message before each answer that says what is known of it, so that the like can be asked
    for: lines such as `lang: en`, `quality: 0.8`, `humor: 0.1`, `creativity: 0.5`, `length: 3`, shuffled, and
    its `context` last.

    What is known stands with the messages, as in OpenAssistant's trees (`lang`, `labels`, `context`); length
    is the number of whole fives of words, and 1. dropout: the probability with which each line is left out,
    drawn once for an answer that several conversations of an example have. Answers that nothing is said of
    get no message, and are counted. Raises UsageError where that is no probability, DataError where a label
    is no number from 0 to 1.
    """
    if not 0 <= dropout <= 1:
        raise UsageError(f"described: dropout is {dropout}, and has to be from 0 to 1")
    for example in data:
        told: dict[tuple[str, ...], str] = {}
        parts: dict[str, Part] = {}
        for name, part in example.parts.items():
            ones = part if isinstance(part, tuple) else (part,)
            for one in ones:
                for place in one.answers:
                    if (said := _upto(one, place)) not in told:
                        told[said] = _lines(one.messages[place], dropout, length, rng)
            made = tuple(_with(one, told) for one in ones)
            parts[name] = made if isinstance(part, tuple) else made[0]
        bare = list(told.values()).count("")
        counts.update({"answers without a description": bare} if bare else {})
        yield example.replaced(**parts)


def steps(text: str) -> int:
    """How long a text is: whole fives of words, and 1.

    >>> steps(""), steps("one two three four"), steps("one, two; three four five")
    (1, 1, 2)
    """
    return len(re.findall(r"\w+", text)) // EACH + 1


def _upto(one: Conversation, place: int) -> tuple[str, ...]:
    """What was said up to this message: what an answer is known by."""
    return tuple(message.content for message in one.messages[: place + 1])


def _with(one: Conversation, told: dict[tuple[str, ...], str]) -> Conversation:
    messages: list[Message] = []
    for place, message in enumerate(one.messages):
        lines = told[_upto(one, place)] if place in one.answers else ""
        messages += [Message("system", lines)] if lines else []
        messages.append(message)
    return replace(one, messages=tuple(messages))


def _lines(answer: Message, dropout: float, length: bool, rng: Random) -> str:
    """What is said of an answer, or nothing."""
    labels = _labels(answer)
    known = {name: f"{labels[name]:.1f}" for name in SHARES if name in labels}
    lang, context = (answer.fields.get(name) for name in ("lang", "context"))
    known |= {"lang": lang} if isinstance(lang, str) and lang.strip() else {}
    known |= {"length": str(steps(answer.content))} if length else {}
    names = list(known)
    rng.shuffle(names)
    if isinstance(context, str) and context.strip():
        known["context"] = context
        names.append("context")
    return "\n".join(f"{name}: {known[name]}" for name in names if rng.random() >= dropout)


def _labels(answer: Message) -> dict[str, float]:
    """Labels by name, from `{name: {value, count}}` or, as tables hold it, `{name: [...], value: [...]}`."""
    given = unpacked(answer.fields.get("labels"))
    if not is_object(given):
        return {}
    names, values = given.get("name"), given.get("value")
    if is_list(names) and is_list(values):
        given = dict(zip(names, values, strict=True))
    found: dict[str, float] = {}
    for name in SHARES:
        one = given.get(name)
        value = one.get("value") if is_object(one) else one
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            id = answer.fields.get("message_id")
            raise DataError(f"message {id!r} has the {name} {value!r}, which is no number from 0 to 1")
        found[name] = float(value)
    return found
