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


@stage("ordered", source="arXiv:2501.09766 (iTool: from easy to hard)")
def ordered(data: Sequence[Example], *, by: str) -> Iterator[Example]:
    """Put the examples in the order of their value `by`, the least first, e.g. from easy to hard.

    Of equals the earlier one stays first. A train step keeps to it with `order: given`. Raises DataError
    where an example has no such value that is one number.
    """
    found: list[tuple[float, int]] = []
    for place, example in enumerate(data):
        one = example.values.get(by)
        if not isinstance(one, int | float):
            raise DataError(f"example {example.id!r} has no value {by!r} that is one number to go by")
        found.append((one, place))
    yield from (data[place] for _, place in sorted(found))


@stage("inverse_frequency", source="arXiv:2408.13296 sec. 3.3; King & Zeng 2001")
def inverse_frequency(
    data: Sequence[Example],
    *,
    key: str,
    to: str = "weight",
    classes: tuple[str, ...] = (),
    counts: Counter[str],
) -> Iterator[Example]:
    """Give every example the value `to`, N / (C n): the rarer its class, the more it counts.

    key: of the metadata, where the class stands. N: of all examples, C: the classes that occur, n: the
    examples of the class. Over all examples the values sum to N; where all classes have as many they are 1.
    classes: that should occur; those that no example has are counted, and get no weight. Objectives that read
    the value `weight`, such as `focal`, weigh by it. Raises DataError where an example has no class, or one
    that is not among `classes`.
    """
    named = [_class(example, key) for example in data]
    sizes = Counter(named)
    if classes and (strange := sorted(set(sizes) - set(classes))):
        raise DataError(f"inverse_frequency: {key!r} is {strange[0]!r}, which is not among {list(classes)}")
    for missing in sorted(set(classes) - set(sizes)):
        counts[f"classes without an example: {missing!r}"] += 1
    for example, name in zip(data, named, strict=True):
        weight = len(named) / (len(sizes) * sizes[name])
        yield replace(example, values={**example.values, to: weight})


@stage("tagged")
def tagged(data: Sequence[Example], *, key: str, to: str) -> Iterator[Example]:
    """Write `to` under `key` into the metadata of every example that has nothing there.

    Behind a stage that adds examples it says which these are.
    """
    for example in data:
        yield example if key in example.meta else replace(example, meta={**example.meta, key: to})


def _class(example: Example, key: str) -> str:
    found = example.meta.get(key)
    if not isinstance(found, str | int):  # true and false are numbers
        raise DataError(
            f"example {example.id!r} has no class under {key!r} in its metadata: {found!r}. The stage "
            "`tagged` gives one to those that have none"
        )
    return str(found)


def _number(value: Json, example: Example, key: str) -> float:
    if isinstance(value, bool | int | float):
        return float(value)
    raise DataError(f"example {example.id!r}: {key} holds {value!r}, which is no number")
