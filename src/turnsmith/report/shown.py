"""Runs in figures and drawings for whoever watches them, in the words and charts of their reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from turnsmith.report import comparison, left, words
from turnsmith.report.curves import CLOCK, Chart, charts, rows, watched
from turnsmith.report.left import Left
from turnsmith.report.measures import panels
from turnsmith.report.page import tidy
from turnsmith.shelf import digest
from turnsmith.types import is_object

FILES = ("metrics.jsonl", CLOCK, "watch.jsonl")  # of a training, as they grow
ROWS = 1 << 16  # bytes at the end of a file of figures, with its last row in them
Told = Mapping[str, Any]


def head(one: Left, shelf: Path) -> dict[str, Any]:
    """A run in a line. changed: seconds since 1970, of the newest of its files. said: what came out. at: the
    step that is at work."""
    brief = left.remembered(one.file, _brief) or _brief({})
    return {
        **brief,
        "name": one.name,
        "kind": one.kind,
        "state": one.state,
        "title": brief["title"] or one.name,
        "changed": _changed(one, shelf),
        "at": _at(one, shelf),
    }


def _brief(told: Told) -> dict[str, Any]:
    """What a list says of a run or a comparison that does not change while its file stays as it is."""
    return {
        "title": tidy(str(told.get("title") or told.get("recipe") or "")),
        "recipe": told.get("recipe"),
        "tiny": bool(told.get("tiny")),
        "finished": told.get("finished"),
        "seconds": _seconds(told),
        "said": tidy(_said(told)),
    }


def whole(one: Left, shelf: Path) -> dict[str, Any]:
    """All of a run but its curves: its steps, claims and figures."""
    told = tidy(one.told)
    plain = ("source", "command", "seed", "version", "next", "warnings")
    trained = [str(step.get("name")) for step in left.steps(told, "train")]
    return {
        **head(one, shelf),
        **{name: told.get(name) for name in plain},
        "base": _base(told),
        "tally": words.tally(told),
        "claims": [_claim(claim) for claim in told.get("claim") or () if is_object(claim)],
        "steps": [_step(step) for step in left.steps(told)],
        "figures": [row for step in left.steps(told, "evaluate") for row in _figures(step)],
        "data": sorted(set(trained)) if one.state not in ("running", "killed") else [],
    }


def compared(one: Left) -> dict[str, Any]:
    """A comparison: its methods with figures, what follows from them, and its plots."""
    told = tidy(one.told)
    tasks: Sequence[Told] = told["tasks"]
    plots = [{**plot, "image": str(plot["image"])} for plot in comparison.plots(told)]
    methods = [
        {
            "name": method["name"],
            "best": method["name"] == told["against_best"]["best"],
            "dropped": method.get("dropped"),
            "said": method["said"],
            "spent": {**method["spent"], "time": words.duration(method["spent"]["seconds"])},
            "cells": [comparison.cells(task["methods"].get(method["name"])) for task in tasks],
        }
        for method in told["methods"]
    ]
    about = {name: told[name] for name in ("title", "advice", "model", "data", "seeds", "failed", "finished")}
    columns = [{name: task[name] for name in ("name", "unit", "better")} for task in tasks]
    return {
        "name": one.name,
        **about,
        "budget": told["budget"]["text"],
        "columns": columns,
        "methods": methods,
        "plots": plots,
    }


def curves(one: Left, shelf: Path) -> dict[str, Any]:
    """The curves of each training of a run, of the one at work as far as it is."""
    found = [_grown(step, place) for step, place in _trainings(one, shelf)]
    return {"name": one.name, "state": one.state, "steps": found}


def _grown(step: Told, place: Path) -> dict[str, Any]:
    metrics, clock, points = (rows(place / name) for name in FILES)
    drawn = [_chart(chart) for chart in charts(metrics, clock) + watched(points)]
    return {"name": str(step.get("name")), **_progress(metrics), "charts": drawn}


def stamp(one: Left, shelf: Path) -> str:
    """A word that is another one as soon as the curves are."""
    places = [place / name for _, place in _trainings(one, shelf) for name in FILES]
    return digest(one.state, [[str(place), *_size(place)] for place in places])


def _trainings(one: Left, shelf: Path) -> list[tuple[Told, Path]]:
    """The training steps whose figures are on the shelf, each with where."""
    told = one.told
    steps = left.steps(told, "train")
    at = told.get("at_work")
    if is_object(at) and at.get("verb") == "train":
        steps = [*steps, at]
    return [(step, place) for step in steps if (place := left.artefact(shelf, step))]


def _progress(metrics: Sequence[Told]) -> dict[str, Any]:
    last = metrics[-1] if metrics else {"step": 0}
    return {"step": last["step"], "total": last.get("total")}


def _chart(chart: Chart) -> dict[str, Any]:
    return {
        "title": chart.title,
        "last": chart.last,
        "image": str(chart.image),
        "wide": str(chart.wide) if chart.wide else None,
        "lines": [{"name": line.name, "style": line.style} for line in chart.lines],
    }


def _size(file: Path) -> tuple[int, int]:
    try:
        found = file.lstat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _changed(one: Left, shelf: Path) -> float:
    files = [one.directory / name for name in (left.RUN, left.COMPARISON, left.NOW, left.RECIPE)]
    if one.state == "running":
        files += [place / FILES[0] for _, place in _trainings(one, shelf)]
    return max(_size(file)[1] for file in files) / 1e9


def _at(one: Left, shelf: Path) -> dict[str, Any] | None:
    """The step that is at work, or was when the run was killed: verb, name, and how far a training has
    come."""
    if one.state not in ("running", "killed"):
        return None
    at = one.told.get("at_work")
    if not is_object(at):
        return None
    place = left.artefact(shelf, at) if at.get("verb") == "train" else None
    return {
        "verb": at.get("verb"),
        "name": at.get("name"),
        **(_progress(rows(place / FILES[0], end=ROWS)) if place else {}),
    }


def _said(told: Told) -> str:
    """What came of it, in a sentence; nothing of one that has not ended."""
    advice = told.get("advice")
    if advice:
        return str(advice[0])
    return words.result(told) if told.get("state") else ""


def _seconds(told: Told) -> float | None:
    cost = told.get("cost")
    return words.finite(cost.get("seconds")) if is_object(cost) else None


def _base(told: Told) -> str | None:
    base = told.get("base")
    return str(base.get("reference")) if is_object(base) else base


def _claim(claim: Told) -> dict[str, Any]:
    return {
        "text": claim.get("text"),
        "verdict": claim.get("verdict"),
        "difference": words.difference(claim),
        "interval": words.interval(claim),
    }


def _step(step: Told) -> dict[str, Any]:
    plain = ("verb", "name", "model", "against", "seconds", "reused", "examples", "tokens", "steps")
    return {name: step.get(name) for name in plain}


def _figures(step: Told) -> list[dict[str, Any]]:
    """A row for each figure that was measured, as the report has it."""
    return [
        {
            "model": step.get("model"),
            "against": step.get("against"),
            "task": str(panel.task.get("title") or panel.task.get("task")),
            "on": panel.task.get("on"),
            "name": row.name,
            "unit": block.unit,
            "better": block.better,
            "n": row.n,
            "before": row.before,
            "after": row.after,
            "difference": row.difference,
            "interval": row.interval,
            "verdict": row.verdict,
            "image": str(row.image),
        }
        for panel in panels(step)
        for block in panel.blocks
        for row in block.rows
    ]
