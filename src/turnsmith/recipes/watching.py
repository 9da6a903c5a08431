"""Tasks measured on the model that is being trained, point by point; the training does not notice."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from turnsmith import ranks
from turnsmith.data.batch import Layout
from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError, UsageError
from turnsmith.evaluation.items import Item, compare
from turnsmith.evaluation.suite import Subject, Task
from turnsmith.models.modes import evaluating
from turnsmith.models.score import Scoring, to
from turnsmith.recipes.measuring import Measuring, cut, failures
from turnsmith.recipes.schema import Component
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import LocalEngine
from turnsmith.shelf import writing
from turnsmith.train.record import WATCHED, forget
from turnsmith.types import Example

if TYPE_CHECKING:
    from turnsmith.recipes.run import Runner
    from turnsmith.recipes.schema import Train


def watcher(
    step: Train, runner: Runner, scoring: Scoring, renderer: Renderer, layout: Layout, directory: Path
) -> Callable[[int, int], None] | None:
    """A function of the steps done and of all steps, that measures where it is time to; None where nothing is
    watched.

    Each point is a line of WATCHED in `directory` as soon as it is known. The model itself is measured, its
    adapter on, in the arithmetic of the training. Raises UsageError where a task has no figure, or where
    several processes train.
    """
    if step.watch is None:
        return None
    if ranks.world() > 1:
        raise UsageError(
            "`watch` measures in one process only: leave it out, and measure in an evaluate step"
        )
    making = Measuring(runner, step.watch.suite, 1.0)
    tasks = [(component, making.task(component)) for component in step.watch.suite]
    for component, task in tasks:
        if not task.metrics:
            raise UsageError(f"{component.name} has no figure that could be watched: measure it afterwards")
    engine = LocalEngine(scoring.model, stop=renderer.stops, autocast=scoring.autocast)
    subject = Subject(
        step.name, scoring, renderer, LocalChat(engine, renderer), lambda run: to(layout(run), scoring.device)
    )
    every, bench, file = step.watch.every, _Alone(runner), directory / WATCHED

    def watch(done: int, total: int) -> None:
        if done % every and done != total:
            return
        forget(file, done - 1)  # a run that was killed while it measured measures this point again
        with undisturbed(scoring):
            for component, task in tasks:
                started = time.perf_counter()
                items = task.measure(subject, bench)
                points = _points(done, component, task, items, time.perf_counter() - started)
                _append(file, points)
                runner.say(f"        step {done}: {told(points)}")

    return watch


@contextmanager
def undisturbed(scoring: Scoring) -> Generator[None]:
    """The model in evaluation without gradients; afterwards it and all random numbers are as before."""
    drawn, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - a task may draw from it
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad(), evaluating(scoring):
            yield
    finally:
        random.setstate(drawn)
        np.random.set_state(legacy)  # noqa: NPY002
        if devices:
            torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True)
class _Alone:
    """A bench without a second model: none is loaded beside the one that is trained."""

    runner: Runner

    def examples(self, name: str) -> Sequence[Example]:
        return self.runner.examples(name)

    def start(self) -> Subject:
        raise UsageError("a task that asks for the start model cannot be watched: measure it afterwards")

    def of_start(self, task: str) -> Sequence[Item]:
        raise UsageError(f"a task that asks for {task} of the start model cannot be watched")


def seconds(file: Path) -> float:
    """How long all that is in the file took to measure."""
    if not file.exists():
        return 0.0
    rows: list[dict[str, Any]] = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return sum({(row["step"], row["task"], row["on"]): row["seconds"] for row in rows}.values())


def told(points: Sequence[Mapping[str, Any]]) -> str:
    """The points of one task at one step, in a line."""
    first = points[0]
    name = f"{first['task']} on {first['on']}" if first["on"] else first["task"]
    figures = ", ".join(
        f"{point['figure']} {point['why'] if point['value'] is None else format(point['value'], '.3f')}"
        for point in points
    )
    failed = f", {first['failed']:,} not answered" if first["failed"] else ""
    return f"{name}: {figures}  n={first['n']}{failed}, {first['seconds']:.1f} s"


def _points(
    done: int, component: Component, task: Task, items: Sequence[Item], seconds: float
) -> list[dict[str, Any]]:
    """A row for each figure of the task. n: items that have it. seconds: of the whole task."""
    ends = cut(items) or {"replies": 0, "cut": 0}
    found: list[dict[str, Any]] = []
    for metric in task.metrics:
        value, n, why = None, 0, None
        try:
            (row,) = compare([metric], items, items)
            value, n = row["before"], row["n"]
        except (UsageError, ModelError) as error:  # nothing answered, or no number: the next point may be one
            why = str(error)
        found.append(
            {
                "step": done,
                "task": component.name,
                "on": component.options.get("on"),
                "figure": metric.name,
                "unit": metric.unit,
                "better": metric.better,
                "value": value if value is not None and math.isfinite(value) else None,
                "n": n,
                "why": why,
                "failed": sum(failures(items).values()),
                **ends,
                "seconds": seconds,
            }
        )
    return found


def _append(file: Path, points: Sequence[Mapping[str, Any]]) -> None:
    lines = [json.dumps(point, ensure_ascii=False) + "\n" for point in points]
    with writing(file), file.open("a", encoding="utf-8") as opened:
        opened.write("".join(lines))
