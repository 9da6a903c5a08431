"""What was measured on items, and how two models' measurements of them are compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from turnsmith.errors import ModelError, UsageError
from turnsmith.evaluation.reducers import REDUCERS, value_of
from turnsmith.evaluation.statistics import Better, Contrast, Difference, Weighed, judged, reduced, sums
from turnsmith.registry import suggest
from turnsmith.types import Finish, Json

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Item:
    """What was measured on one item. values: numbers, sums rather than means. shown: for people, and for
    other tasks. failed: why there are no values, or not all, e.g. since the model could not answer; such an
    item is never scored as 0. finish: how the model's reply ended, where there was one."""

    id: str
    group: str
    values: Mapping[str, float]
    shown: Mapping[str, Json] = field(default_factory=dict)
    failed: str | None = None
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure: the sum of `value` over the sum of `size` (items where None), or what a reducer gives.

    of: what the items are called. reduce: a reducer (`reducers.py`) over the items' values; `value` names its
    first one and `others` the rest, which are called as the reducer calls them where nothing is said.
    """

    name: str
    value: str
    unit: str
    better: Better
    size: str | None = None
    of: str = "items"
    chance: bool = False  # whether the items' `chance` value is the floor of this figure
    grouped: bool = False
    reduce: str | None = None
    others: tuple[str, ...] = ()


Runs = Sequence[tuple[Sequence[Item], Sequence[Item]]]  # of each run, its items before and after


def compare(
    metrics: Sequence[Metric],
    before: Sequence[Item],
    after: Sequence[Item],
    *,
    contrasted: Callable[[Metric, Runs], Contrast] | None = None,
) -> list[dict[str, Any]]:
    """Each metric with its paired interval and verdict, over all items and, where it is grouped, over each
    kind. The groups of a metric are judged together: their intervals hold at once. contrasted: makes the
    difference of a metric; None for `contrast`."""
    made = contrasted or contrast
    rows = []
    for metric in metrics:
        row = _row(metric, before, after, judged([made(metric, [(before, after)])], level=LEVEL)[0])
        row["groups"] = _groups(metric, before, after, made) if metric.grouped else []
        rows.append(row)
    return rows


def _groups(
    metric: Metric,
    before: Sequence[Item],
    after: Sequence[Item],
    made: Callable[[Metric, Runs], Contrast],
) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(item.group for item in before))
    split = [[[item for item in side if item.group == name] for side in (before, after)] for name in names]
    found = judged([made(metric, [(ones, others)]) for ones, others in split], level=LEVEL)
    rows = []
    for name, (ones, others), difference in zip(names, split, found, strict=True):
        row = {**_row(metric, ones, others, difference), "name": name}
        row["says_nothing"] = row["chance"] is not None and _at_chance(row)
        rows.append(row)
    return rows


def _row(metric: Metric, before: Sequence[Item], after: Sequence[Item], found: Difference) -> dict[str, Any]:
    pairs = _pairs(metric, before, after)
    chance = sum(one.values["chance"] for one, _ in pairs) / len(pairs) if metric.chance else None
    return {
        "name": metric.name,
        "value": metric.value,
        "size": metric.size,
        "reduce": metric.reduce,
        "others": metric.others,
        "unit": metric.unit,
        "better": metric.better,
        "of": metric.of,
        "chance": chance,
        "verdict": found.verdict(metric.better),
        "left_out": left_out(metric, [(before, after)]),
        **asdict(found),
    }


def pooled(metric: Metric, runs: Runs) -> Difference:
    """The paired difference over one or more runs, each given as its items before and after.

    Raises UsageError where no item is in all of them, a size differs or there is no figure; ModelError where
    a value is no number.
    """
    return judged([contrast(metric, runs)], level=LEVEL)[0]


def together(metric: Metric, methods: Mapping[str, Runs]) -> dict[str, Difference]:
    """The differences of several methods, each against its own `before`, judged together, by name.

    Their intervals hold at once; where all were measured on the same items they are resampled jointly.
    """
    found = judged([contrast(metric, runs) for runs in methods.values()], level=LEVEL)
    return dict(zip(methods, found, strict=True))


def contrast(metric: Metric, runs: Runs) -> Contrast:
    """The difference before it is judged; raises as `pooled`."""
    ids, rows = _matched(metric, runs)
    if metric.reduce:
        sides = [[_weighed(metric, [pair[side] for pair in row]) for row in rows] for side in (0, 1)]
        return reduced(sides[0], sides[1], len(ids), ids=ids)
    return sums(
        [[one.values[metric.value] for one, _ in row] for row in rows],
        [[other.values[metric.value] for _, other in row] for row in rows],
        [[one.values[metric.size] for one, _ in row] for row in rows] if metric.size else None,
        ids=ids,
    )


def by_itself(metric: Metric, runs: Runs) -> Contrast:
    """What is measured after, as a difference from nothing, before it is judged; raises as `pooled`.

    Of sums the items before are to be 0. A reducer's figure is compared with 0 itself: items that are all 0
    have another one, or, as a correlation, none.
    """
    if not metric.reduce:
        return contrast(metric, runs)
    ids, rows = _matched(metric, runs)
    after = [_weighed(metric, [other for _, other in row]) for row in rows]
    nothing: list[Weighed] = [lambda times: np.zeros(len(times)) for _ in rows]
    return reduced(nothing, after, len(ids), ids=ids)


def _matched(metric: Metric, runs: Runs) -> tuple[list[str], list[list[tuple[Item, Item]]]]:
    """The ids that all runs have, and each run's items of these, before and after."""
    matched = [{one.id: (one, other) for one, other in _pairs(metric, *run)} for run in runs]
    ids = [id for id in matched[0] if all(id in run for run in matched)]
    rows = [[run[id] for id in ids] for run in matched]
    for row in rows:
        _check(metric, row)
    return ids, rows


def left_out(metric: Metric, runs: Runs) -> int:
    """How many items have the metric's value somewhere, but not on both sides of every run."""
    sides = [side for run in runs for side in run]
    having = [{item.id for item in side if metric.value in item.values} for side in sides]
    return len(set.union(*having) - set.intersection(*having))


def needed(metric: Metric) -> tuple[str, ...]:
    """The names of all item values that a metric is made of; raises UsageError for a reducer that is not."""
    if not metric.reduce:
        return (metric.value, *([metric.size] if metric.size else []))
    if metric.reduce not in REDUCERS:
        meant = suggest(metric.reduce, list(REDUCERS))
        raise UsageError(f"{metric.name!r}: there is no reducer {metric.reduce!r}{meant}")
    return (metric.value, *(metric.others or REDUCERS[metric.reduce].inputs[1:]))


def _weighed(metric: Metric, items: Sequence[Item]) -> Weighed:
    """The figure of one model's items by how often each counts."""
    assert metric.reduce
    values = [np.array([item.values[name] for item in items]) for name in needed(metric)]
    try:
        value_of(metric.reduce, *values)
    except ValueError as error:
        raise UsageError(f"{metric.name!r} of {len(items)} {metric.of}: {error}") from None
    return partial(REDUCERS[metric.reduce].figure, *values)


def change(metric: Metric, before: Sequence[Item], after: Sequence[Item]) -> list[Item]:
    """Items whose value is the later one less the earlier one; their size is that of both.

    Raises UsageError for a figure of a reducer, which is no sum over items.
    """
    if metric.reduce:
        raise UsageError(
            f"{metric.name!r} ({metric.reduce}) is no sum over items, so a change in it cannot be compared "
            "item by item: compare two models"
        )
    pairs = _pairs(metric, before, after)
    _check(metric, pairs)
    values = [(one, other.values[metric.value] - one.values[metric.value]) for one, other in pairs]
    return [Item(one.id, one.group, {**one.values, metric.value: value}) for one, value in values]


def worst(metric: Metric, before: Sequence[Item], after: Sequence[Item], count: int = 3) -> dict[str, Any]:
    """How many items got better and worse, and the `count` that got worse by most, the worst first.

    An item's figure is its value over its size, as the metric's is over all. What a reducer gives is of no
    item by itself: there the counts are None.
    """
    if metric.reduce:
        return {"better": None, "worse": None, "items": []}
    sign = 1.0 if metric.better == "higher" else -1.0
    moved: list[tuple[float, dict[str, Any]]] = []
    for one, other in _pairs(metric, before, after):
        size = one.values[metric.size] if metric.size else 1.0
        first, second = (item.values[metric.value] / size if size else 0.0 for item in (one, other))
        moved.append((sign * (second - first), {"id": one.id, "before": first, "after": second}))
    fallen = sorted((row for row in moved if row[0] < 0), key=lambda row: row[0])
    return {
        "better": sum(gain > 0 for gain, _ in moved),
        "worse": len(fallen),
        "items": [row for _, row in fallen[:count]],
    }


def _pairs(metric: Metric, before: Sequence[Item], after: Sequence[Item]) -> list[tuple[Item, Item]]:
    """The items that both have, with the metric's value."""
    later = {item.id: item for item in after if metric.value in item.values}
    return [(item, later[item.id]) for item in before if item.id in later and metric.value in item.values]


def _check(metric: Metric, pairs: Sequence[tuple[Item, Item]]) -> None:
    """Refuse what would give a figure that means nothing."""
    if not pairs:
        raise UsageError(f"{metric.name!r} cannot be compared: there is no item that both models have")
    for one, other in pairs:
        for value in needed(metric):
            _compared(metric, value, one, other)


def _compared(metric: Metric, value: str, one: Item, other: Item) -> None:
    """Refuse a value that is missing, is no number, or should be the same on both sides and is not."""
    for item in (one, other):
        if value not in item.values:
            raise UsageError(f"item {item.id!r} has no {value!r}, which {metric.name!r} is made of")
    first, second = one.values[value], other.values[value]
    if not (math.isfinite(first) and math.isfinite(second)):
        found = f"{first:g} before and {second:g} after"
        raise ModelError(f"{metric.name!r} of item {one.id!r} is no number ({found}): has training diverged?")
    if first == second:
        return
    differ = f"item {one.id!r} has {first:g} {value!r} before and {second:g} after: {metric.name!r} cannot be"
    if value == metric.size:
        raise UsageError(f"{differ} compared across tokenizers")
    if metric.reduce and value in _fixed(metric):
        raise UsageError(f"{differ} compared, because the two were not measured on the same data")


def _fixed(metric: Metric) -> list[str]:
    """The values that belong to the items themselves."""
    assert metric.reduce
    one = REDUCERS[metric.reduce]
    return [name for name, role in zip(needed(metric), one.inputs, strict=True) if role in one.fixed]


def _at_chance(row: Mapping[str, Any]) -> bool:
    """Whether the start model's share of right answers cannot be told from guessing: within two standard
    errors."""
    chance, n = row["chance"], row["n"]
    return bool(row["before"] <= chance + 2 * (chance * (1 - chance) / n) ** 0.5)
