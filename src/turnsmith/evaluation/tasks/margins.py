"""Which of two answers a model finds likelier, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from turnsmith.data.batch import micro_batches
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.types import Example


@task("margins", data=True, parts=("chosen", "rejected"))
class Margins:
    """Log-likelihood of the chosen answer less that of the rejected one, summed over the answers' tokens.

    on: data with the parts `chosen` and `rejected`. answers: their last ones count, or, where two
    conversations are compared as wholes, all. length: pairs of which one does not fit into so many tokens are
    left out.
    """

    title = "Chosen against rejected answers"
    note = (
        "How much likelier the chosen answer is to the model than the rejected one; long answers weigh more."
    )
    metrics = (
        Metric("margin", "margin", "nats per pair", "higher", of="pairs"),
        Metric("chosen is likelier", "ahead", "share", "higher", of="pairs"),
    )

    def __init__(self, *, on: str, length: int = 512, answers: Literal["last", "all"] = "last") -> None:
        self.on, self.length = on, length
        self.answers: Literal["last", "all"] = answers

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        return margins(subject, bench.examples(self.on), self.length, self.answers)


@torch.no_grad()
def margins(
    subject: Subject, examples: Sequence[Example], length: int, answers: Literal["last", "all"] = "last"
) -> list[Item]:
    """For each pair: `margin` in nats, and `ahead`, 1 where it is above 0."""
    parts, train = ("chosen", "rejected"), "last" if answers == "last" else "assistant"
    rendered = subject.rendered(examples, parts, length=length, over="drop", train=train)
    items = []
    for run in micro_batches(rendered, subject.row):
        batch = subject.batch(run)
        scores = subject.scoring(batch)
        margin = scores.sums("chosen") - scores.sums("rejected")
        for owner, value in zip(scores.owner("chosen").tolist(), margin.tolist(), strict=True):
            items.append(Item(batch.ids[owner], "", {"margin": value, "ahead": float(value > 0)}))
    return items
