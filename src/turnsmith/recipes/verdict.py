"""Whether a recipe's claim came out, from intervals alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from turnsmith.recipes.schema import Statement

Verdict = Literal["holds", "fails", "undecided", "not judged"]


def judge(
    claim: Sequence[Statement], measured: Sequence[Mapping[str, Any]], *, tiny: bool
) -> list[dict[str, Any]]:
    """Each statement with its figure, interval and verdict; tiny runs are never judged."""
    return [_judged(statement, measured, tiny) for statement in claim]


def verdict(low: float, high: float, direction: Literal["lower", "higher", "within"], by: float) -> Verdict:
    """`holds` where the interval lies wholly beyond the bound, `fails` where wholly on its other side.

    >>> verdict(-0.3, -0.2, "lower", 0.0), verdict(-0.3, 0.1, "lower", 0.0), verdict(0.1, 0.2, "lower", 0.0)
    ('holds', 'undecided', 'fails')
    """
    if direction == "within":
        if -by < low and high < by:
            return "holds"
        return "fails" if low > by or high < -by else "undecided"
    if direction == "lower":
        low, high = -high, -low
    return "holds" if low > by else "fails" if high < by else "undecided"


def _judged(statement: Statement, measured: Sequence[Mapping[str, Any]], tiny: bool) -> dict[str, Any]:
    far = f" by more than {statement.by:g}" if statement.by else ""
    how = f"within {statement.by:g}" if statement.direction == "within" else f"{statement.direction}{far}"
    text = f"{statement.task}: {statement.quantity} of {statement.of} against {statement.against} is {how}"
    row = _row(statement, measured)
    if row is None:
        return {"text": text, "bound": statement.by, "verdict": "not judged"}
    found = verdict(row["low"], row["high"], statement.direction, statement.by)
    figures = {name: row[name] for name in ("difference", "low", "high", "n")}
    return {"text": text, "bound": statement.by, **figures, "verdict": "not judged" if tiny else found}


def _row(statement: Statement, measured: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The newest measurement of what the statement speaks of."""
    for step in reversed(measured):
        if (step["model"], step["against"]) == (statement.of, statement.against):
            for task in step["tasks"]:
                for metric in task["metrics"]:
                    if (task["task"], metric["name"]) == (statement.task, statement.quantity):
                        return metric
    return None
