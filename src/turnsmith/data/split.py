"""Splits that keep what belongs together apart: by a key of the examples, not by examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from turnsmith import seeds
from turnsmith.errors import DataError
from turnsmith.types import Example

BETWEEN = "left out: belongs to more than one split"


def split(
    examples: Sequence[Example], shares: Mapping[str, float], *, by: str, seed: int = 0
) -> tuple[dict[str, list[Example]], int]:
    """Examples by split, and how many were left out because their keys fall into different splits.

    by: a key of meta, `id` for the examples themselves. Its values are drawn, in proportion to `shares`; an
    example with several values (e.g. the people of a chat) goes where all of them went, or nowhere.
    """
    if any(share <= 0 for share in shares.values()):
        raise DataError(f"shares of a split must be above 0: {dict(shares)}")
    keys = {example.id: _keys(example, by) for example in examples}
    values = sorted({key for ones in keys.values() for key in ones})
    seeds.stream(seed, "split", by).shuffle(values)
    whole = sum(shares.values())
    where: dict[str, str] = {}
    reached, start = 0.0, 0
    for name, share in shares.items():
        reached += share
        end = round(len(values) * reached / whole)
        where |= dict.fromkeys(values[start:end], name)
        start = end
    found: dict[str, list[Example]] = {name: [] for name in shares}
    between = 0
    for example in examples:
        names = {where[key] for key in keys[example.id]}
        if len(names) == 1:
            found[names.pop()].append(example)
        else:
            between += 1
    for name, ones in found.items():
        if not ones:
            raise DataError(
                f"split {name!r} is empty: {len(values)} values of {by!r} are too few for these shares"
            )
    return found, between


def _keys(example: Example, by: str) -> list[str]:
    value = example.id if by == "id" else example.meta.get(by)
    if value is None or value == [] or value == ():
        raise DataError(f"example {example.id!r} has no {by!r} to split by; it has {', '.join(example.meta)}")
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]
