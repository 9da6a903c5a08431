"""What an evaluate step measured, laid out: rows with a chart each, on one scale per unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from turnsmith.report import charts
from turnsmith.report.charts import Scale
from turnsmith.report.words import NONE, difference, figure, finite, interval, places

WIDTH = 248  # of a chart's drawing area
VERDICTS = ("better", "worse", "undecided")
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of a table, ready to be set."""

    name: str
    n: object
    of: str
    before: str
    after: str
    difference: str
    interval: str
    verdict: str
    chance: str
    image: Markup
    faint: bool = False
    left_out: object = 0  # items that only one side has
    note: str = ""  # what the interval does not know


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one unit under one scale. better: `lower`, `higher` or nothing. together: how many of the rows
    were judged together."""

    unit: str
    better: str
    rows: tuple[Measured, ...]
    axis: Markup
    together: int = 1


@dataclass(frozen=True, slots=True)
class Panel:
    """A task: what it is, its blocks, and a table of groups for each metric that has any."""

    task: Row
    blocks: tuple[Block, ...]
    groups: tuple[tuple[str, Block], ...]


def panels(step: Row) -> list[Panel]:
    """The tasks of an evaluate step that gave figures."""
    tasks: Sequence[Row] = step.get("tasks") or ()
    every = [metric for task in tasks for metric in task.get("metrics") or ()]
    scales = {key: _scale([m for m in every if _key(m) == key], key[1]) for key in {_key(m) for m in every}}
    found: list[Panel] = []
    for task in tasks:
        metrics: Sequence[Row] = task.get("metrics") or ()
        if not metrics:
            continue
        blocks = tuple(
            _block(unit, better, same, scales[unit, better]) for unit, better, same in _runs(metrics)
        )
        groups = tuple((str(m.get("name") or "\u2013"), _grouped(m)) for m in metrics if m.get("groups"))
        found.append(Panel(task, blocks, groups))
    return found


def _key(metric: Row) -> tuple[str, str]:
    return str(metric.get("unit") or ""), str(metric.get("better") or "")


def _runs(metrics: Sequence[Row]) -> list[tuple[str, str, list[Row]]]:
    """Neighbours that share a unit and a direction."""
    found: list[tuple[str, str, list[Row]]] = []
    for metric in metrics:
        key = _key(metric)
        if not found or found[-1][:2] != key:
            found.append((*key, []))
        found[-1][2].append(metric)
    return found


def _scale(metrics: Sequence[Row], better: str) -> Scale:
    """From the least to the greatest end of the intervals, 0 included, better always on the right."""
    ends = [finite(m.get(key)) for m in metrics for key in ("low", "high", "difference")]
    low, high = charts.span(ends, zero=True)
    room = 0.06 * (high - low)
    start, stop = (WIDTH, 6) if better == "lower" else (6, WIDTH)
    return Scale(low - room, high + room, start, stop)


def _block(unit: str, better: str, metrics: Sequence[Row], scale: Scale) -> Block:
    rows = tuple(_measured(metric, scale) for metric in metrics)
    return Block(unit, better, rows, charts.axis(scale, better=better or None))


def _measured(metric: Row, scale: Scale) -> Measured:
    verdict = _verdict(metric)
    low, middle, high = (finite(metric.get(key)) for key in ("low", "difference", "high"))
    said = f"difference {difference(metric)}, interval {interval(metric) or NONE}, {verdict or 'not judged'}"
    return _row(metric, charts.forest(low, middle, high, scale, verdict=verdict, text=said))


def _grouped(metric: Row) -> Block:
    groups: Sequence[Row] = metric["groups"]
    values = [finite(group.get(key)) for group in groups for key in ("before", "after", "chance")]
    low, high = charts.span(values)
    scale = Scale(low, high, 6, 154)
    rows = tuple(_row(group, _dumbbell(group, scale)) for group in groups)
    unit, better = str(metric.get("unit") or ""), str(metric.get("better") or "")
    together = max((int(finite(group.get("comparisons")) or 1) for group in groups), default=1)
    return Block(unit, better, rows, charts.axis(scale), together)


def _dumbbell(group: Row, scale: Scale) -> Markup:
    before, after, chance = (finite(group.get(key)) for key in ("before", "after", "chance"))
    said = f"before {figure(before)}, after {figure(after)}"
    said += f", chance {figure(chance)}" if chance is not None else ""
    return charts.dumbbell(before, after, chance, scale, text=said)


def _row(row: Row, image: Markup) -> Measured:
    digits = places(row)
    return Measured(
        name=str(row.get("name") or "\u2013"),
        n=row.get("n"),
        of=str(row.get("of") or ""),
        before=figure(row.get("before"), digits),
        after=figure(row.get("after"), digits),
        difference=difference(row),
        interval=interval(row),
        verdict=_verdict(row),
        chance="" if row.get("chance") is None else figure(row["chance"]),
        image=image,
        faint=bool(row.get("says_nothing")),
        left_out=row.get("left_out") or 0,
        note=str(row.get("note") or ""),
    )


def _verdict(row: Row) -> str:
    """A verdict that the style sheet knows, else nothing."""
    return str(row.get("verdict")) if row.get("verdict") in VERDICTS else ""
