"""Loss on conversations that were not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from turnsmith.data.batch import micro_batches
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.types import Example


@task("heldout", data=True)
class Heldout:
    """Negative log-likelihood of what the assistant said, per token, with and without the end-of-turn token.

    on: the data. length: conversations are cut after the last whole turn within so many tokens, so that the
    time is bounded; those of which nothing fits are left out.
    """

    title = "Loss on held-out conversations"
    note = (
        "Mean negative log-likelihood of the assistant's tokens in conversations that were held out. Without "
        "the end-of-turn token it says how well the words are predicted, with it also how well the length is."
    )
    metrics = (
        Metric("loss without the stop token", "content", "nats per token", "lower", "words", "conversations"),
        Metric("loss", "all", "nats per token", "lower", "tokens", "conversations"),
    )

    def __init__(self, *, on: str, length: int = 160) -> None:
        self.on = on
        self.length = length

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        return losses(subject, bench.examples(self.on), self.length)


@torch.no_grad()
def losses(subject: Subject, examples: Sequence[Example], length: int) -> list[Item]:
    """For each conversation: nats over all trained tokens (`all`, `tokens`) and without stop tokens
    (`content`, `words`)."""
    rendered = subject.rendered(examples, ("text",), length=length, over="right")
    items = []
    for run in micro_batches(rendered, subject.row):
        batch = subject.batch(run)
        scores = subject.scoring(batch)
        words = batch.targets[batch.entry] != subject.renderer.stop
        for number, id in enumerate(batch.ids):
            own = scores.path == number
            content = own & words
            values = {
                "all": float(-scores.logprobs[own].sum()),
                "tokens": float(own.sum()),
                "content": float(-scores.logprobs[content].sum()),
                "words": float(content.sum()),
            }
            items.append(Item(id, "", values))
    return items
