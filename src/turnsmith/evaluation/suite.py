"""Tasks, and what they may ask for while they measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from turnsmith.data.batch import Layout
from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.models.score import Scoring
from turnsmith.sample.chat import LocalChat
from turnsmith.types import Conversation, Example, Failure, Reply, Sampling


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to be measured. batch: lays out examples for it; row: most tokens of one batch."""

    name: str
    scoring: Scoring
    renderer: Renderer
    chat: LocalChat
    batch: Layout
    row: int = 4096


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
