"""Stages that give examples numbers, which objectives, trainables and tasks read as `values`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean, pstdev

from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Example, Json, Scorer


@stage("value")
def value(
    data: Sequence[Example],
    *,
    name: str,
    to: float | None = None,
    key: str | None = None,
    counts: Counter[str],
) -> Iterator[Example]:
    """Give every example that has no value `name` one.

    key: of the metadata, where a number stands that is taken. to: the value where there is none; what gets
    it in place of a number of its own is counted. Without `to` an example without a number is an error.
    """
    if to is None and key is None:
        raise UsageError("value: say what the value is, `to`, or under which `key` of the metadata it stands")
    for example in data:
        if name in example.values:
            yield example
            continue
        own = example.meta.get(key) if key is not None else None
        if own is None and to is None:
            raise DataError(f"example {example.id!r} has no {key!r} in its metadata: give a value with `to`")
        if own is None and key is not None:
            counts[f"have no {key!r}: their {name!r} is {to:g}"] += 1
        found = to if own is None else _number(own, example, str(key))
        yield replace(example, values={**example.values, name: found})


@stage("scored", scorers=("by",))
def scored(
    data: Sequence[Example], *, by: Scorer, to: str = "reward", part: str = "text", counts: Counter[str]
) -> Iterator[Example]:
    """Give every example the value `to`, what the scorer `by` says of its conversation `part`.

    Those that cannot be judged are left out and counted. Raises DataError where there is no such
    conversation.
    """
    conversations = [conversation_of(example, part) for example in data]
    for example, score in zip(data, by(conversations, data), strict=True):
        if score is None:
            counts["could not be judged"] += 1
        else:
            yield replace(example, values={**example.values, to: score})


@stage("standardised", source="arXiv:2404.14367 sec. 3")
def standardised(data: Sequence[Example], *, name: str = "reward") -> Iterator[Example]:
    """Take the mean of all numbers `name` off each of them, and divide by their standard deviation.

    All are those of all examples that the stage is given: in a step that collects, those of the round. Where
    all are the same they become 0. Raises DataError where an example has no such value.
    """
    found: list[float] = []
    for example in data:
        one = example.values.get(name)
        if one is None:
            raise DataError(f"example {example.id!r} has no value {name!r} that could be standardised")
        found += one if isinstance(one, tuple) else (one,)
    mean, deviation = fmean(found), pstdev(found)

    def scaled(number: float) -> float:
        return (number - mean) / deviation if deviation else 0.0

    for example in data:
        one = example.values[name]
        new = tuple(map(scaled, one)) if isinstance(one, tuple) else scaled(one)
        yield replace(example, values={**example.values, name: new})


def _number(value: Json, example: Example, key: str) -> float:
    if isinstance(value, bool | int | float):
        return float(value)
    raise DataError(f"example {example.id!r}: {key} holds {value!r}, which is no number")
