"""Tasks, and what they may ask for while they measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from turnsmith.data.batch import Layout
from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer, Train
from turnsmith.data.shorten import Over
from turnsmith.evaluation.items import Item, Metric
from turnsmith.models.score import Scoring
from turnsmith.types import Chat, Conversation, Example, Failure, Json, Rendered, Reply, Sampling

Gives = Literal["replies", "likelihoods"]
# Of an item and a reply, the values and what is shown.
Judged = Callable[[Item, Reply], tuple[Mapping[str, float], Mapping[str, Json]]]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to be measured. batch: lays out examples for it; row: most tokens of one batch. gives: what
    tasks may ask of it. lost: examples that tasks cut or left out, by reason, since it was last emptied."""

    name: str
    scoring: Scoring
    renderer: Renderer
    chat: Chat
    batch: Layout
    row: int = 4096
    gives: tuple[Gives, ...] = ("replies", "likelihoods")
    lost: Counter[str] = field(default_factory=Counter[str], compare=False)

    def rendered(
        self,
        examples: Sequence[Example],
        parts: Sequence[str],
        *,
        length: int,
        over: Over,
        train: Train = "assistant",
    ) -> list[Rendered]:
        """The parts of the examples as its tokens, as of `prepare`; what is cut or left out is counted."""
        found, lost = prepare(
            examples, self.renderer, parts, length=length, over=over, max_dropped=1.0, train=train
        )
        self.lost.update(lost)
        return found

    @classmethod
    def answering(cls, name: str, chat: Chat) -> Subject:
        """A model that only answers, such as one behind an endpoint: there is nothing to score it with."""
        nothing: Any = None
        return cls(name, nothing, nothing, chat, nothing, gives=("replies",))


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


def answers(
    subject: Subject, asked: Mapping[str, Conversation], sampling: Sampling
) -> dict[str, Reply | Failure]:
    """What the subject says to each conversation, by its id, or why it could not be answered."""
    replies = subject.chat(list(asked.values()), sampling=sampling, seed=0)
    return dict(zip(asked, replies, strict=True))


def answered(
    subject: Subject,
    asked: Mapping[str, Conversation],
    sampling: Sampling,
    items: Sequence[Item],
    said: Judged,
) -> list[Item]:
    """The items, one for each conversation, with what the replies come to and how they ended.

    items: what is known of them beforehand. said: values and what is shown of an item's reply. An item that
    could not be answered stays without both, and says why: nothing is scored as 0 that was not said.
    """
    replies = answers(subject, asked, sampling)
    found: list[Item] = []
    for item in items:
        reply = replies[item.id]
        if isinstance(reply, Failure):
            found.append(replace(item, failed=reply.reason))
            continue
        values, shown = said(item, reply)
        values, shown = {**item.values, **values}, {**item.shown, **shown}
        found.append(replace(item, values=values, shown=shown, finish=reply.finish))
    return found
