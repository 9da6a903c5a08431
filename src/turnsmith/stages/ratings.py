"""Stages that choose conversations by how people rated them, and the baseline that goes by length alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from turnsmith.errors import DataError
from turnsmith.registry import stage
from turnsmith.types import Example, Json

UNTOUCHED = 5.0  # a set of ratings that are all 5 is what the form showed before anybody moved it


@stage("rated")
def rated(
    data: Sequence[Example],
    *,
    least: float = 8.0,
    key: str = "ratings",
    untouched: float | None = 5.0,
    counts: Counter[str],
) -> Iterator[Example]:
    """Keep what people rated `least` or better, in the mean of the ratings under `key` of the metadata.

    untouched: what a form shows before it is touched; ratings that are all this count as none. None: every
    rating was given. What is unrated is left out, and counted apart from what was rated lower.
    """
    for example in data:
        mean = rating(example, key, untouched)
        if mean is None:
            counts["unrated"] += 1
        elif mean < least:
            counts["rated lower"] += 1
        else:
            yield example


@stage("mean_rating")
def mean_rating(
    data: Sequence[Example],
    *,
    to: str = "rating",
    key: str = "ratings",
    untouched: float | None = 5.0,
    counts: Counter[str],
) -> Iterator[Example]:
    """Give each example the value `to`, the mean of the ratings under `key` of the metadata.

    untouched: as of `rated`. What is unrated is left out and counted.
    """
    for example in data:
        mean = rating(example, key, untouched)
        if mean is None:
            counts["unrated"] += 1
        else:
            yield replace(example, values={**example.values, to: mean})


def rating(example: Example, key: str = "ratings", untouched: float | None = UNTOUCHED) -> float | None:
    """The mean of an example's ratings; None where there are none, or all are still `untouched`.

    Raises DataError where something else than numbers stands there.
    """
    found = example.meta.get(key)
    values = list(found.values()) if isinstance(found, Mapping) else [] if found is None else [found]
    numbers = [_number(value, example, key) for value in values]
    return fmean(numbers) if numbers and any(number != untouched for number in numbers) else None


def _number(value: Json, example: Example, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"example {example.id!r}: {key} holds {value!r}, which is no number")
    return float(value)


@stage("longest")
def longest(data: Sequence[Example], *, count: int) -> Iterator[Example]:
    """Keep the `count` examples with the most messages, in their order; of equals the earlier.

    Ratings of chats follow their length, so whatever is shown of `rated` stands beside this.
    """
    if count < 0:
        raise DataError(f"the stage 'longest' keeps `count` examples: {count} is negative")
    sizes = [(-_messages(example), place) for place, example in enumerate(data)]
    for place in sorted(place for _, place in sorted(sizes)[:count]):
        yield data[place]


def _messages(example: Example) -> int:
    """Of the longest conversation."""
    parts = (part if isinstance(part, tuple) else (part,) for part in example.parts.values())
    return max(len(one.messages) for part in parts for one in part)


@stage("renamed")
def renamed(
    data: Sequence[Example], *, part: str, to: str = "text", counts: Counter[str]
) -> Iterator[Example]:
    """Keep one part of each example, under another name: e.g. `chosen` answers as `text` to learn from.

    Examples without it are left out and counted.
    """
    for example in data:
        if part in example.parts:
            yield Example({to: example.parts[part]}, example.values, example.meta)
        else:
            counts[f"have no part {part!r}"] += 1
