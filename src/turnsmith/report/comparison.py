"""report.html of a comparison: the table, what follows from it, and a plot of gain against what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from turnsmith.report.page import NAME, environment, tidy
from turnsmith.report.scatter import Point, Range, front, scatter
from turnsmith.report.words import difference, figure, finite, interval, places
from turnsmith.shelf import write_text

Row = Mapping[str, Any]
FORGOTTEN = ("KL from the start model", "right by generation")  # axes of the plots, where measured


def write(found: Mapping[str, Any], directory: Path) -> Path:
    """Make the page of a comparison from what its comparison.json holds; gives where it is."""
    path = directory / NAME
    write_text(path, render(found))
    return path


def render(found: Mapping[str, Any]) -> str:
    """The page as text."""
    seen = tidy(found)
    page = environment().get_template("comparison.html.jinja")
    return page.render(found=seen, table=_table(seen), plots=plots(seen), cells=cells)


def _table(found: Row) -> list[dict[str, Any]]:
    """A line for each method: its cost, and each figure against the start model."""
    lines: list[dict[str, Any]] = []
    for method in found["methods"]:
        figures = [(task, task["methods"].get(method["name"])) for task in found["tasks"]]
        lines.append({**method, "figures": figures, "best": method["name"] == found["against_best"]["best"]})
    return lines


def cells(row: Row | None) -> dict[str, str]:
    """A difference as a cell: figure, interval, verdict, n."""
    if row is None:
        return {}
    return {
        "after": figure(row["after"], places(row)),
        "difference": difference(row),
        "interval": interval(row),
        "verdict": str(row["verdict"]),
    }


def plots(found: Row) -> list[dict[str, Any]]:
    """Gain against each measure of what was forgotten; what they cost is the same for all."""
    if not found["tasks"]:
        return []
    first = found["tasks"][0]
    plots: list[dict[str, Any]] = []
    for task in found["tasks"]:
        if task["name"] in FORGOTTEN:
            plots.append(_plot(first, task, found["methods"]))
    return plots


def _plot(first: Row, other: Row, methods: Sequence[Row]) -> dict[str, Any]:
    points = [
        Point(method["name"], one, two)
        for method in methods
        if (one := _place(first, method)) is not None and (two := _place(other, method)) is not None
    ]
    ahead = front(points, first["better"], other["better"])
    image = scatter(
        points,
        ahead,
        across=f"{first['name']}, {first['unit']}: {first['better']} is better",
        up=f"{other['name']}, {other['unit']}: {other['better']} is better",
    )
    return {"title": f"{first['name']} and {other['name']}", "image": image, "front": ahead}


def _place(task: Row, method: Row) -> Range | None:
    """The difference from the start model, and the ends of its interval."""
    row: Row = task["methods"].get(method["name"]) or {}
    middle, low, high = (finite(row.get(key)) for key in ("difference", "low", "high"))
    return None if middle is None or low is None or high is None else (middle, low, high)
