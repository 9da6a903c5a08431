"""Tasks, what they measure items on, and how two models' measurements are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from turnsmith.data.batch import Layout
from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError, UsageError
from turnsmith.evaluate.statistics import Better, Difference, paired
from turnsmith.models.score import Scoring
from turnsmith.sample.chat import LocalChat
from turnsmith.types import Conversation, Example, Failure, Json, Reply, Sampling

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to be measured. batch: lays out examples for it; row: most tokens of one batch."""

    name: str
    scoring: Scoring
    renderer: Renderer
    chat: LocalChat
    batch: Layout
    row: int = 4096


@dataclass(frozen=True, slots=True)
class Item:
    """What was measured on one item. values: numbers, sums rather than means. shown: for people, and for
    other tasks."""

    id: str
    group: str
    values: Mapping[str, float]
    shown: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure: the sum of `value` over the sum of `size` (items where None). of: what the items are
    called."""

    name: str
    value: str
    unit: str
    better: Better
    size: str | None = None
    of: str = "items"
    chance: bool = False  # whether the items' `chance` value is the floor of this figure
    grouped: bool = False


class Bench(Protocol):
    """What a task may ask for beside its subject."""

    def examples(self, name: str) -> Sequence[Example]: ...
    def start(self) -> Subject: ...
    def of_start(self, task: str) -> Sequence[Item]:
        """The start model's items of another task, measured once."""
        ...


class Task(Protocol):
    """Items of one model. title and note are for the report; metrics say how items become figures."""

    title: str
    note: str
    metrics: tuple[Metric, ...]

    def measure(self, subject: Subject, bench: Bench) -> list[Item]: ...


def answers(subject: Subject, asked: Mapping[str, Conversation], sampling: Sampling) -> dict[str, Reply]:
    """The subject's reply to each conversation, by its id.

    Raises ModelError naming the first that cannot be answered: leaving it out, or counting it as wrong, would
    make the figures of two models speak of different items.
    """
    replies = subject.chat(list(asked.values()), sampling=sampling, seed=0)
    found: dict[str, Reply] = {}
    for id, reply in zip(asked, replies, strict=True):
        if isinstance(reply, Failure):
            raise ModelError(f"{subject.name} cannot answer {id!r}: {reply.reason}")
        found[id] = reply
    return found


def compare(metrics: Sequence[Metric], before: Sequence[Item], after: Sequence[Item]) -> list[dict[str, Any]]:
    """Each metric with its paired interval and verdict, over all items and, where it is grouped, over each
    kind."""
    rows = []
    for metric in metrics:
        row = _row(metric, before, after)
        row["groups"] = []
        if metric.grouped:
            for group in dict.fromkeys(item.group for item in before):
                ones = [item for item in before if item.group == group]
                others = [item for item in after if item.group == group]
                found = _row(metric, ones, others)
                found["name"] = group
                found["says_nothing"] = found["chance"] is not None and _at_chance(found)
                row["groups"].append(found)
        rows.append(row)
    return rows


def _row(metric: Metric, before: Sequence[Item], after: Sequence[Item]) -> dict[str, Any]:
    later = {item.id: item for item in after}
    pairs = [
        (item, later[item.id])
        for item in before
        if item.id in later and metric.value in item.values and metric.value in later[item.id].values
    ]
    _check(metric, pairs)
    found: Difference = paired(
        [one.values[metric.value] for one, _ in pairs],
        [other.values[metric.value] for _, other in pairs],
        [one.values[metric.size] for one, _ in pairs] if metric.size else None,
        level=LEVEL,
    )
    chance = sum(one.values["chance"] for one, _ in pairs) / len(pairs) if metric.chance else None
    return {
        "name": metric.name,
        "unit": metric.unit,
        "better": metric.better,
        "of": metric.of,
        "chance": chance,
        "verdict": found.verdict(metric.better),
        **asdict(found),
    }


def _check(metric: Metric, pairs: Sequence[tuple[Item, Item]]) -> None:
    """Refuse what would give a figure that means nothing."""
    if not pairs:
        raise UsageError(f"{metric.name!r} cannot be compared: there is no item that both models have")
    for one, other in pairs:
        if not all(math.isfinite(item.values[metric.value]) for item in (one, other)):
            found = f"{one.values[metric.value]:g} before and {other.values[metric.value]:g} after"
            raise ModelError(
                f"{metric.name!r} of item {one.id!r} is no number ({found}): has training diverged?"
            )
        if metric.size and one.values[metric.size] != other.values[metric.size]:
            raise UsageError(
                f"item {one.id!r} has {one.values[metric.size]:g} {metric.size!r} before and "
                f"{other.values[metric.size]:g} after: {metric.name!r} cannot be compared across tokenizers"
            )


def _at_chance(row: Mapping[str, Any]) -> bool:
    """Whether the start model's share of right answers cannot be told from guessing: within two standard
    errors."""
    chance, n = row["chance"], row["n"]
    return bool(row["before"] <= chance + 2 * (chance * (1 - chance) / n) ** 0.5)
