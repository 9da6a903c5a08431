"""The figures of one model, with intervals of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from turnsmith.evaluation.items import Item, Metric, by_itself, compare


def alone(metrics: Sequence[Metric], items: Sequence[Item]) -> list[dict[str, Any]]:
    """Each metric as `compare` gives it, of one model: `after` is the figure, `low` and `high` are its
    interval, and there is nothing before, no difference and no verdict.

    A figure is its difference from nothing, and so is its interval (`by_itself`), which for a share ends at 0
    and 1.
    """
    values = {metric.value: 0.0 for metric in metrics}
    nothing = [replace(item, values={**item.values, **values}) for item in items]
    rows = compare(metrics, nothing, items, contrasted=by_itself)
    for row in (*rows, *(group for whole in rows for group in whole["groups"])):
        row |= {"before": None, "difference": None, "verdict": None}
        if row["unit"] == "share":
            row |= {"low": max(0.0, row["low"]), "high": min(1.0, row["high"])}
        row.pop("says_nothing", None)
    return rows
