"""What was measured on items, and how two models' measurements of them are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from turnsmith.errors import ModelError, UsageError
from turnsmith.evaluation.statistics import Better, Difference, paired
from turnsmith.types import Json

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Item:
    """What was measured on one item. values: numbers, sums rather than means. shown: for people, and for
    other tasks."""

    id: str
    group: str
    values: Mapping[str, float]
    shown: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure: the sum of `value` over the sum of `size` (items where None). of: what the items are
    called."""

    name: str
    value: str
    unit: str
    better: Better
    size: str | None = None
    of: str = "items"
    chance: bool = False  # whether the items' `chance` value is the floor of this figure
    grouped: bool = False


def compare(metrics: Sequence[Metric], before: Sequence[Item], after: Sequence[Item]) -> list[dict[str, Any]]:
    """Each metric with its paired interval and verdict, over all items and, where it is grouped, over each
    kind."""
    rows = []
    for metric in metrics:
        row = _row(metric, before, after)
        row["groups"] = []
        if metric.grouped:
            for group in dict.fromkeys(item.group for item in before):
                ones = [item for item in before if item.group == group]
                others = [item for item in after if item.group == group]
                found = _row(metric, ones, others)
                found["name"] = group
                found["says_nothing"] = found["chance"] is not None and _at_chance(found)
                row["groups"].append(found)
        rows.append(row)
    return rows


def _row(metric: Metric, before: Sequence[Item], after: Sequence[Item]) -> dict[str, Any]:
    found = pooled(metric, [(before, after)])
    pairs = _pairs(metric, before, after)
    chance = sum(one.values["chance"] for one, _ in pairs) / len(pairs) if metric.chance else None
    return {
        "name": metric.name,
        "value": metric.value,
        "size": metric.size,
        "unit": metric.unit,
        "better": metric.better,
        "of": metric.of,
        "chance": chance,
        "verdict": found.verdict(metric.better),
        **asdict(found),
    }


def pooled(metric: Metric, runs: Sequence[tuple[Sequence[Item], Sequence[Item]]]) -> Difference:
    """The paired difference over one or more runs, each given as its items before and after.

    Raises UsageError where no item is in all of them, or a size differs; ModelError where a value is no
    number.
    """
    matched = [{one.id: (one, other) for one, other in _pairs(metric, *run)} for run in runs]
    ids = [id for id in matched[0] if all(id in run for run in matched)]
    rows = [[run[id] for id in ids] for run in matched]
    for row in rows:
        _check(metric, row)
    return paired(
        [[one.values[metric.value] for one, _ in row] for row in rows],
        [[other.values[metric.value] for _, other in row] for row in rows],
        [[one.values[metric.size] for one, _ in row] for row in rows] if metric.size else None,
        level=LEVEL,
    )


def change(metric: Metric, before: Sequence[Item], after: Sequence[Item]) -> list[Item]:
    """Items whose value is the later one less the earlier one; their size is that of both."""
    pairs = _pairs(metric, before, after)
    _check(metric, pairs)
    values = [(one, other.values[metric.value] - one.values[metric.value]) for one, other in pairs]
    return [Item(one.id, one.group, {**one.values, metric.value: value}) for one, value in values]


def _pairs(metric: Metric, before: Sequence[Item], after: Sequence[Item]) -> list[tuple[Item, Item]]:
    """The items that both have, with the metric's value."""
    later = {item.id: item for item in after if metric.value in item.values}
    return [(item, later[item.id]) for item in before if item.id in later and metric.value in item.values]


def _check(metric: Metric, pairs: Sequence[tuple[Item, Item]]) -> None:
    """Refuse what would give a figure that means nothing."""
    if not pairs:
        raise UsageError(f"{metric.name!r} cannot be compared: there is no item that both models have")
    for one, other in pairs:
        if not all(math.isfinite(item.values[metric.value]) for item in (one, other)):
            found = f"{one.values[metric.value]:g} before and {other.values[metric.value]:g} after"
            raise ModelError(
                f"{metric.name!r} of item {one.id!r} is no number ({found}): has training diverged?"
            )
        if metric.size and one.values[metric.size] != other.values[metric.size]:
            raise UsageError(
                f"item {one.id!r} has {one.values[metric.size]:g} {metric.size!r} before and "
                f"{other.values[metric.size]:g} after: {metric.name!r} cannot be compared across tokenizers"
            )


def _at_chance(row: Mapping[str, Any]) -> bool:
    """Whether the start model's share of right answers cannot be told from guessing: within two standard
    errors."""
    chance, n = row["chance"], row["n"]
    return bool(row["before"] <= chance + 2 * (chance * (1 - chance) / n) ** 0.5)


def together(
    metric: Metric, sides: Sequence[Sequence[tuple[Sequence[Item], Sequence[Item]]]]
) -> list[Difference]:
    """`pooled` of each, judged together."""
    return [pooled(metric, one) for one in sides]
