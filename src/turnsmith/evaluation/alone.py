"""The figures of one model, with intervals of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnsmith.evaluation.items import Item, Metric, compare


def alone(metrics: Sequence[Metric], items: Sequence[Item]) -> list[dict[str, Any]]:
    """Each metric as `compare` gives it, of one model: `after` is the figure, `low` and `high` are its
    interval, and there is nothing before, no difference and no verdict. That of a share ends at 0 and 1.
    """
    rows = compare(metrics, None, items)
    for row in (*rows, *(group for whole in rows for group in whole["groups"])):
        row |= {"before": None, "difference": None, "verdict": None}
        if row["unit"] == "share":
            row |= {"low": max(0.0, row["low"]), "high": min(1.0, row["high"])}
        row.pop("says_nothing", None)
    return rows
