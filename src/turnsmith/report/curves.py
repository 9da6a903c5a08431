"""The figures of a training step, read from its files and drawn over steps."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from markupsafe import Markup

from turnsmith.report.charts import Line, Value, curve, smoothed
from turnsmith.report.words import figure, finite

CLOCK = "clock.jsonl"
COUNTS = ("step", "total", "tokens", "supervised", "slots")
TITLES = {"loss": "Loss", "lr": "Learning rate", "gradient": "Gradient norm before clipping"}
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A small multiple. last: its last value, as text. wide: the same for wide columns, if there is one."""

    title: str
    last: str
    image: Markup
    lines: tuple[Line, ...]
    wide: Markup | None = None


def rows(path: Path, *, end: int | None = None) -> list[dict[str, Any]]:
    """The rows of a file of figures; none where it is absent. A torn line is left out. end: of so many bytes
    at its end alone."""
    try:
        with path.open("rb") as opened:
            if end is not None:
                opened.seek(max(0, opened.seek(0, os.SEEK_END) - end))
            lines = opened.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            figures = cast(dict[str, Any], row)
            if finite(figures.get("step")) is not None:
                found.append(figures)
    return found


def charts(metrics: Rows, clock: Rows) -> list[Chart]:
    """Loss first, then learning rate, gradient norm, speed, memory and whatever else was recorded."""
    if not metrics:
        return []
    found = [_loss(metrics)]
    extra = sorted({name for row in metrics for name in row} - {*COUNTS, *TITLES, "validation"})
    for name in ("lr", "gradient", *extra):
        if any(finite(row.get(name)) is not None for row in metrics):
            found.append(_chart(TITLES.get(name, name), [_line(name, "line", metrics)]))
    return found + _pace(metrics, clock)


def watched(points: Rows) -> list[Chart]:
    """A chart for each figure of each task that was measured while the model was trained."""
    series: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for point in points:
        task, on, name = (str(point.get(key) or "") for key in ("task", "on", "figure"))
        series.setdefault((task, on, name), []).append(point)
    found: list[Chart] = []
    for (task, on, name), own in series.items():
        if any(finite(point.get("value")) is not None for point in own):
            where = f" on {on}" if on else ""
            found.append(_chart(f"{task}{where}: {name}", [_line(name, "line", own, "value")]))
    return found


def _loss(metrics: Rows) -> Chart:
    lines = _with_mean(_line("loss", "thin", metrics))
    held = [row for row in metrics if finite(row.get("validation")) is not None]
    if held:
        lines.append(_line("validation", "dots", held))
    return _chart(TITLES["loss"], lines, wide=True)


def _with_mean(raw: Line) -> list[Line]:
    """The line and its running mean, where it is long enough to need one."""
    width = max(5, len(raw.values) // 15)
    if len(raw.values) < 10:
        return [raw]
    return [raw, Line(f"mean of {width} steps", "line", raw.steps, smoothed(raw.values, width))]


def _pace(metrics: Rows, clock: Rows) -> list[Chart]:
    """Trained tokens per second, and the most memory held so far."""
    seconds = {row["step"]: finite(row.get("seconds")) for row in clock}
    speeds: list[Value] = []
    for row in metrics:
        taken, trained = seconds.get(row["step"]), finite(row.get("supervised"))
        speeds.append(trained / taken if taken and trained is not None else None)
    found: list[Chart] = []
    if any(speed is not None for speed in speeds):
        speed = Line("tokens per second", "thin", [row["step"] for row in metrics], speeds)
        found.append(_chart("Trained tokens per second", _with_mean(speed), zero=True))
    if any(finite(row.get("memory_gib")) is not None for row in clock):
        found.append(
            _chart("Peak memory so far, GiB", [_line("memory", "line", clock, "memory_gib")], zero=True)
        )
    return found


def _line(name: str, style: str, found: Rows, key: str | None = None) -> Line:
    values = [finite(row.get(key or name)) for row in found]
    return Line(name, style, [float(row["step"]) for row in found], values)


def _chart(title: str, lines: Sequence[Line], *, wide: bool = False, zero: bool = False) -> Chart:
    values = [value for value in lines[min(1, len(lines) - 1)].values if value is not None]
    return Chart(
        title,
        figure(values[-1]) if values else "",
        curve(lines, title=title, zero=zero),
        tuple(lines) if len(lines) > 1 else (),
        curve(lines, title=title, width=660, zero=zero) if wide else None,
    )
