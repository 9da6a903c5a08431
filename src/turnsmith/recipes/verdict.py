"""Whether a recipe's claim came out, from intervals alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from turnsmith.evaluation.items import Item, Metric, change, left_out, pooled
from turnsmith.evaluation.statistics import LEAST
from turnsmith.recipes.schema import Direction, Statement
from turnsmith.shelf import Shelf

Verdict = Literal["holds", "fails", "undecided", "not judged"]


def verdict(low: float, high: float, direction: Direction, by: float) -> Verdict:
    """`holds` where the interval lies wholly beyond the bound, `fails` where wholly on its other side.

    >>> verdict(-0.3, -0.2, "lower", 0.0), verdict(-0.3, 0.1, "lower", 0.0), verdict(0.1, 0.2, "lower", 0.0)
    ('holds', 'undecided', 'fails')
    >>> verdict(-0.1, 0.1, "not higher", 0.2), verdict(-0.1, 0.3, "not higher", 0.2)
    ('holds', 'undecided')
    """
    if direction == "within":
        if -by < low and high < by:
            return "holds"
        return "fails" if low > by or high < -by else "undecided"
    if direction in ("lower", "not higher"):
        low, high = -high, -low
    bound = -by if direction in ("not higher", "not lower") else by
    return "holds" if low > bound else "fails" if high < bound else "undecided"


def judge(
    claim: Sequence[Statement],
    runs: Sequence[Sequence[Mapping[str, Any]]],
    shelf: Shelf,
    *,
    tiny: bool = False,
) -> list[dict[str, Any]]:
    """Each statement with its figure, interval and verdict over one or more runs of the same recipe.

    runs: the steps of each run, as run.json has them. With several, the figure is the mean over them, and the
    interval covers both the choice of items and that of seeds. Tiny runs are never judged. Statements are
    judged one by one: a claim holds where all of them do, so that no correction is due (Berger 1982).
    """
    return [_judged(statement, runs, shelf, tiny) for statement in claim]


def _judged(
    statement: Statement,
    runs: Sequence[Sequence[Mapping[str, Any]]],
    shelf: Shelf,
    tiny: bool,
) -> dict[str, Any]:
    told = {"text": said(statement), "bound": statement.by}
    metric = _metric(statement, runs[0]) if runs else None
    found = [_sides(statement, metric, steps, shelf) for steps in runs] if metric else []
    sides = [one for one in found if one is not None]
    if metric is None or not sides or len(sides) < len(found):
        return {**told, "verdict": "not judged"}
    difference = pooled(metric, sides)
    came = verdict(difference.low, difference.high, statement.direction, statement.by)
    if tiny:
        came = "not judged"
    elif difference.n < LEAST:
        came = "undecided"  # so few items know too little of the tails
    figures = {name: getattr(difference, name) for name in ("difference", "low", "high", "n")}
    figures |= {"left_out": left_out(metric, sides), "note": difference.note}
    return {**told, **figures, "seeds": len(runs), "verdict": came}


def said(statement: Statement) -> str:
    """The statement in words."""
    far = f" by more than {statement.by:g}" if statement.by else ""
    how = f"within {statement.by:g}" if statement.direction == "within" else f"{statement.direction}{far}"
    on = f" on {statement.on}" if statement.on else ""
    of, against = named(statement.of), named(statement.against)
    return f"{statement.task}{on}: {statement.quantity} of {of} against {against} is {how}"


def named(side: str | tuple[str, str] | None) -> str:
    """A side of a statement in words: a model, the change from one to another, or 0."""
    if side is None:
        return "0"
    return side if isinstance(side, str) else f"{side[0]} since {side[1]}"


def _metric(statement: Statement, steps: Sequence[Mapping[str, Any]]) -> Metric | None:
    """The figure as the run's record describes it; None where it was not measured."""
    rows = [
        row
        for step in steps
        for task in step.get("tasks", ())
        if task["task"] == statement.task
        for row in task["metrics"]
    ]
    for row in rows:
        if row["name"] == statement.quantity:
            described = (row[name] for name in ("name", "value", "unit", "better", "size"))
            others = tuple(row.get("others", ()))  # records of before there were reducers have none
            return Metric(*described, reduce=row.get("reduce"), others=others)
    return None


def _sides(
    statement: Statement, metric: Metric, steps: Sequence[Mapping[str, Any]], shelf: Shelf
) -> tuple[list[Item] | None, list[Item]] | None:
    """The items of what the statement compares with, None of 0, and of what it speaks of."""
    made: list[list[Item]] = []
    for side in (statement.of, *([] if statement.against is None else [statement.against])):
        names = (side,) if isinstance(side, str) else side
        found = [_items(statement, name, steps, shelf) for name in names]
        here = [items for items in found if items is not None]
        if len(here) < len(found):
            return None
        made.append(here[0] if len(here) == 1 else change(metric, here[1], here[0]))
    return (made[1] if made[1:] else None), made[0]


def _items(
    statement: Statement, model: str, steps: Sequence[Mapping[str, Any]], shelf: Shelf
) -> list[Item] | None:
    """The newest measurement of the model by the statement's task."""
    for step in reversed(steps):
        for task in step.get("tasks", ()):
            fits = task["task"] == statement.task and statement.on in (None, task["on"])
            if fits and model in task["measurements"]:
                return items(shelf, task["measurements"][model])
    return None


def items(shelf: Shelf, key: str) -> list[Item]:
    """What a measurement on the shelf holds."""
    text = (shelf.path(key) / "items.jsonl").read_text("utf-8")
    return [Item(**json.loads(line)) for line in text.split("\n") if line]
