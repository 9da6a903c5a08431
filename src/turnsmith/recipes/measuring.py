"""What an `evaluate` step does once it is known that it has to be done."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from turnsmith import wheels
from turnsmith.errors import ModelError
from turnsmith.evaluation.alone import alone
from turnsmith.evaluation.items import Item, Metric, compare, worst
from turnsmith.evaluation.suite import Subject, Task
from turnsmith.models import load
from turnsmith.models.answering import is_llamacpp
from turnsmith.models.directory import is_combination
from turnsmith.models.endpoint import is_endpoint
from turnsmith.models.locate import locate
from turnsmith.models.score import Scoring, to
from turnsmith.recipes import files, wiring
from turnsmith.recipes.combining import Combined
from turnsmith.recipes.preparing import layout_of
from turnsmith.recipes.rendering import renderer_of
from turnsmith.recipes.run import in_suite
from turnsmith.recipes.schema import Component
from turnsmith.recipes.talking import llamacpp, remote
from turnsmith.recipes.telling import remarks
from turnsmith.recipes.verdict import items
from turnsmith.sample.chat import LocalChat, mute
from turnsmith.sample.engine import LocalEngine
from turnsmith.sample.remote import RemoteChat
from turnsmith.shelf import write_text
from turnsmith.train.place import Dtype, arithmetic, computed_on, device
from turnsmith.types import Chat, Conversation, Example, Json

if TYPE_CHECKING:
    from turnsmith.recipes.run import Runner, Trained
    from turnsmith.recipes.schema import Evaluate

COUNTED = ("failed", "cut", "spent", "lost")  # what a measurement's record says of replies and examples


def make(step: Evaluate, runner: Runner, after: Trained, before: Trained | None) -> dict[str, Any]:
    """Measure both models with each task, or take what was measured before, and compare. Without `before`,
    the one model alone."""
    runner.check_claim()
    bench = Measuring(runner, step.suite, step.max_failed)
    tasks: list[dict[str, Any]] = []
    for component in step.suite:
        task = bench.task(component)
        runner.say(f"measure {component.name}{_on(component, step.suite)}")
        ones, first = bench.measure(component, before) if before is not None else ([], {})
        others, second = bench.measure(component, after)
        sides = {step.model: (others, second)}
        if before is not None:
            sides = {str(step.against): (ones, first), **sides}
        for name, (found, _) in sides.items():
            refuse_failed(found, step.max_failed, f"{component.name} on {name}")
        counts = {
            "items": len(others),
            **{name: {side: record.get(name) for side, (_, record) in sides.items()} for name in COUNTED},
        }
        metrics = compare(task.metrics, ones, others) if before is not None else alone(task.metrics, others)
        if before is not None:
            asked = bench.asked(component)
            for row, metric in zip(metrics, task.metrics, strict=True):
                row["worst"] = _worst(metric, ones, others, asked)
        tasks.append(
            {
                "task": component.name,
                "on": component.options.get("on"),
                "measurements": {name: record["key"] for name, (_, record) in sides.items()},
                "title": task.title + _on(component, step.suite),
                "note": task.note,
                "seconds": {name: record["seconds"] for name, (_, record) in sides.items()},
                "reused": {name: record["reused"] for name, (_, record) in sides.items()},
                "computed_on": {name: record.get("computed_on") for name, (_, record) in sides.items()},
                "varies": getattr(task, "varies", None),
                "metrics": metrics,
                **counts,
                "remarks": remarks(counts),
                "shown": _side_by_side(ones, others) if not task.metrics else [],
            }
        )
    seconds = sum(second for task in tasks for second in task["seconds"].values())
    return {"kind": "comparison", "tasks": tasks, "seconds": seconds}


def _on(component: Component, suite: Sequence[Component]) -> str:
    """The data that a task measures on, where the suite has it several times."""
    several = sum(one.name == component.name for one in suite) > 1
    return f" on {component.options['on']}" if several and "on" in component.options else ""


class Measuring:
    """The bench of one evaluate step: gives tasks their data and the start model, and keeps every
    measurement. max_failed: share of items that may go unanswered."""

    def __init__(self, runner: Runner, suite: Sequence[Component], max_failed: float) -> None:
        self.runner, self.suite, self.max_failed = runner, suite, max_failed
        self.dtype: Dtype
        self.dtype, self.dtype_seconds = arithmetic("auto", wheels.home() / "arithmetic.json")

    def task(self, component: Component) -> Task:
        def speaks(name: str) -> Chat:
            return chat(self.runner.model(name), self.runner)

        options = wiring.filled("task", component, self.runner, speaks)
        return files.made(component, self.runner.registry, self.runner.near, options)

    def examples(self, name: str) -> Sequence[Example]:
        return self.runner.examples(name)

    def asked(self, component: Component) -> dict[str, list[dict[str, Json]]]:
        """The conversations that a task measures on, as turns, by the ids of its items; nothing where it has
        questions of its own."""
        if "on" not in component.options:
            return {}
        found: dict[str, list[dict[str, Json]]] = {}
        for example in self.examples(str(component.options["on"])):
            text = example.parts.get("text")
            if isinstance(text, Conversation):
                found[example.id] = [{"role": one.role, "text": one.content} for one in text.messages]
        return found

    def start(self) -> Subject:
        return self.subject(self.runner.models["base"][0])

    def of_start(self, task: str) -> Sequence[Item]:
        return self.measure(in_suite(task, self.suite), self.runner.models["base"][0])[0]

    def measure(self, component: Component, model: Trained) -> tuple[list[Item], dict[str, Any]]:
        """A task's items on one model, from the shelf if they are there, and their record."""
        shelf = self.runner.shelf
        key = self.runner.measurement_key(component, self.suite, model, self.dtype)

        def make(directory: Path) -> dict[str, Any]:
            started = time.perf_counter()
            subject = self.subject(model)
            _spent(subject)  # by stages that asked before
            subject.lost.clear()
            measured = self.task(component).measure(subject, self)
            refuse_failed(measured, self.max_failed, f"{component.name} on {model.reference}")
            lines = [json.dumps(asdict(item), ensure_ascii=False) for item in measured]
            write_text(directory / "items.jsonl", "\n".join(lines) + "\n")
            seconds = time.perf_counter() - started
            named = {"kind": "measurement", "task": component.name, "model": model.reference}
            lost = {reason: count for reason, count in subject.lost.items() if count}
            counts = {
                "items": len(measured),
                "failed": failures(measured),
                "cut": cut(measured),
                "lost": lost,
            }
            spent = _spent(subject)
            here = None if spent else computed_on(self.dtype_seconds)
            return {
                **named,
                **counts,
                "spent": spent,
                "dtype": self.dtype,
                "computed_on": here,
                "seconds": seconds,
            }

        reused = shelf.obtain(key, make)
        return items(shelf, key), {**shelf.record(key), "key": key, "reused": reused}

    def subject(self, model: Trained) -> Subject:
        """The model, loaded once; at most two are held."""
        return held(model, self.dtype, self.runner)


def failures(items: Sequence[Item]) -> dict[str, int]:
    """How many items could not be measured, by reason; reasons that differ in numbers only are one."""
    return dict(Counter(re.sub("[0-9]+", "N", item.failed) for item in items if item.failed is not None))


def cut(items: Sequence[Item]) -> dict[str, int] | None:
    """How many replies came, and how many of them did not end by themselves; None where none came."""
    ends = [item.finish for item in items if item.finish is not None]
    return {"replies": len(ends), "cut": ends.count("length")} if ends else None


def refuse_failed(items: Sequence[Item], most: float, what: str) -> None:
    """Raise ModelError where more than the share `most` of the items could not be measured."""
    failed = failures(items)
    count = sum(failed.values())
    if count <= most * len(items):
        return
    reasons = "; ".join(f"{number:,} {reason}" for reason, number in failed.items())
    raise ModelError(
        f"{what}: {count:,} of {len(items):,} items could not be answered, more than the {most:.0%} that "
        f"`max_failed` allows: {reasons}. Replies of endpoints that came are recorded: give the same command "
        "again once the cause is gone, and only the others are asked for"
    )


def _spent(subject: Subject) -> dict[str, Any] | None:
    """What was asked of an endpoint since this was last looked at; None of a model in this process."""
    chat = subject.chat
    return asdict(chat.settle()) if isinstance(chat, RemoteChat) else None


def settle(runner: Runner) -> dict[str, dict[str, Any]]:
    """What was asked of each endpoint in use since this was last looked at, by its reference."""
    found = {one.name: _spent(one) for one in runner.subjects.values()}
    return {name: spent for name, spent in found.items() if spent is not None}


def held(model: Trained, dtype: Dtype, runner: Runner) -> Subject:
    """The model ready to be measured, from memory where it is one of the last two."""
    kept = runner.subjects
    if model.fingerprint not in kept:
        while len(kept) > 1:
            kept.pop(next(iter(kept)))
        kept[model.fingerprint] = subject(model.reference, dtype, runner)
    return kept[model.fingerprint]


def chat(model: Trained, runner: Runner) -> Chat:
    """The model as a chat, for a stage."""
    return held(model, arithmetic("auto", wheels.home() / "arithmetic.json")[0], runner).chat


def subject(reference: str, dtype: Dtype, runner: Runner) -> Subject:
    """A model ready to be measured and talked to; its adapter is in the same dtype as the rest."""
    if is_endpoint(reference):
        return Subject.answering(reference, remote(reference))
    if is_llamacpp(reference):
        return Subject.answering(reference, llamacpp(reference))
    if is_combination(locate(reference)):
        return _combined(reference, dtype, runner)
    model, tokenizer = load.load(reference, dtype=dtype, device=device())
    model.to(getattr(torch, dtype)).eval()
    layout = layout_of(runner, model)
    renderer = renderer_of(reference, tokenizer)
    scoring = Scoring(model)
    chat = LocalChat(LocalEngine(model, stop=renderer.stops), renderer) if scoring.speaks else mute(reference)
    return Subject(reference, scoring, renderer, chat, lambda run: to(layout(run), model.device))


def _combined(reference: str, dtype: Dtype, runner: Runner) -> Subject:
    """Models that decode in step, ready to be measured and talked to as one."""
    found = Combined(reference, dtype)
    layout = found.layout(layout_of(runner, *found.models.values()))
    scoring: Any = found.scoring(Scoring)  # it answers what tasks ask of one
    chat = LocalChat(found.engine(), found.renderer)
    return Subject(reference, scoring, found.renderer, chat, lambda run: to(layout(run), scoring.device))


def _side_by_side(before: Sequence[Item], after: Sequence[Item]) -> list[dict[str, Any]]:
    """What both said, or the one where there is nothing before."""
    earlier = {item.id: item for item in before}
    return [
        {
            "id": item.id,
            "prompt": item.shown["prompt"],
            "before": _said(earlier[item.id]) if before else None,
            "after": _said(item),
            "reference": item.shown.get("reference"),
            "ended": {
                "before": earlier[item.id].shown.get("ended") if before else None,
                "after": item.shown.get("ended"),
            },
        }
        for item in after
        if item.id in earlier or not before
    ]


def _worst(
    metric: Metric, before: Sequence[Item], after: Sequence[Item], asked: Mapping[str, list[dict[str, Json]]]
) -> dict[str, Any]:
    """What got worse by most, with what was asked and what both models said, where that is known."""
    found = worst(metric, before, after)
    earlier, later = ({item.id: item for item in side} for side in (before, after))
    for row in found["items"]:
        one, other = earlier[row["id"]], later[row["id"]]
        row["prompt"] = other.shown.get("prompt", asked.get(row["id"]))
        row["said"] = {"before": one.shown.get("text"), "after": other.shown.get("text")}
        row["reference"] = other.shown.get("reference", other.shown.get("answer"))
    return found


def _said(item: Item) -> Json:
    return item.shown["text"] if item.failed is None else f"(no reply: {item.failed})"
