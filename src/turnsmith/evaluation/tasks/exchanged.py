"""Loss on held-out conversations behind answers of which some words were exchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from turnsmith import seeds
from turnsmith.data.batch import micro_batches
from turnsmith.errors import UsageError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.models.head import rows
from turnsmith.models.score import Scoring
from turnsmith.registry import task
from turnsmith.types import Batch, Example, Rendered, Tokens


@task("exchanged", data=True, source="arXiv:2405.11870 sec. 3; arXiv:2403.02178 sec. 5")
class Exchanged:
    """Negative log-likelihood of the assistant's words per token where some of the words before them are the
    model's own, where these are any tokens of the vocabulary, and where all are the data's.

    on: the data. share: of the assistant's words that are exchanged, for what the model draws there, behind
    the data's own words, at temperature 1, or for ids that are drawn evenly; which words, and the random
    numbers, are the same for every model. The tokens that end turns stay. length: conversations are cut after
    the last whole turn within so many tokens; those of which nothing fits are left out. Raises UsageError
    unless 0 <= share <= 1.
    """

    title = "Loss behind exchanged words"
    note = (
        "Mean negative log-likelihood of the assistant's words in held-out conversations, without the tokens "
        "that end turns: where the model reads the data's words, where it reads some words of its own in "
        "their place, as it would if it wrote the answer itself, and where it reads any tokens there."
    )
    metrics = (
        Metric("loss behind own words", "own", "nats per token", "lower", "words", "conversations"),
        Metric("loss behind any words", "any", "nats per token", "lower", "words", "conversations"),
        Metric("loss behind the data's words", "given", "nats per token", "lower", "words", "conversations"),
    )

    def __init__(self, *, on: str, share: float = 0.2, length: int = 160) -> None:
        if not 0 <= share <= 1:
            raise UsageError(f"exchanged: share is {share}, and has to be between 0 and 1")
        self.on, self.share, self.length = on, share, length

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        return losses(subject, bench.examples(self.on), self.share, self.length)


@torch.no_grad()
def losses(subject: Subject, examples: Sequence[Example], share: float, length: int) -> list[Item]:
    """For each conversation, nats over the words: `own`, `any`, `given`; their number: `words`, and of those
    that were replaced: `replaced`."""
    rendered = subject.rendered(examples, ("text",), length=length, over="right")
    items = []
    for run in micro_batches(rendered, subject.row):
        given = subject.batch(run)
        chosen, numbers = _choice(run, subject.renderer.stop, share)
        drawn = draw(subject.scoring, given, chosen, numbers[chosen])
        even = (numbers[chosen] * len(subject.scoring.projection)).long()
        own, other = (
            subject.batch(list(_replaced(run, chosen.numpy(), ids.numpy(force=True))))
            for ids in (drawn, even)
        )
        words = given.targets[given.entry] != subject.renderer.stop
        sides = {"given": given, "own": own, "any": other}
        logprobs = {name: subject.scoring(batch).logprobs.cpu() for name, batch in sides.items()}
        owners = torch.tensor([path.example for path in given.paths])[given.path]
        for number, id in enumerate(given.ids):
            mine = (owners == number) & words
            values = {
                **{name: float(-found[mine].sum()) for name, found in logprobs.items()},
                "words": float(mine.sum()),
                "replaced": float((mine & chosen).sum()),
            }
            items.append(Item(id, "", values))
    return items


def draw(scoring: Scoring, batch: Batch, chosen: Tensor, numbers: Tensor) -> Tensor:
    """Ids that the model draws at the chosen ones (N,) of the trained tokens, behind the batch's own.

    numbers: uniform in [0, 1), one for each that is chosen: an id is drawn where its share of the cumulated
    probabilities, in the order of ids, holds the number.
    """
    other = scoring.beside(batch, 1.0)
    states = other.hidden[batch.entry[chosen].to(other.hidden.device)]
    held = rows(len(scoring.projection))
    ids = []
    for some, wanted in zip(states.split(held), numbers.split(held), strict=True):
        heap = other.project(some).double().softmax(-1).cumsum(-1)
        at = torch.searchsorted(heap, wanted[:, None].to(heap.device))
        ids.append(at[:, 0].clamp_max(heap.shape[1] - 1))
    return torch.cat(ids) if ids else torch.zeros(0, dtype=torch.long)


def _choice(run: Sequence[Rendered], stop: int, share: float) -> tuple[Tensor, Tensor]:
    """Which trained tokens (N,) are replaced, and a number in [0, 1) for each; both by example alone."""
    chosen, numbers = [], []
    for example in run:
        rng = seeds.array(0, "exchanged", example.id)
        for tokens in _sequences(example):
            targets = tokens.targets[np.flatnonzero(tokens.weights)]
            found = rng.random((2, len(targets)))
            chosen.append((found[0] < share) & (targets != stop))
            numbers.append(found[1])
    return torch.from_numpy(np.concatenate(chosen)), torch.from_numpy(np.concatenate(numbers))


def _replaced(run: Sequence[Rendered], chosen: np.ndarray, drawn: np.ndarray) -> Iterator[Rendered]:
    """The examples as they read what was drawn where trained tokens are chosen (N,)."""
    places, ids = iter(chosen.tolist()), iter(drawn.tolist())
    for example in run:
        parts: dict[str, tuple[Tokens, ...]] = {}
        for part, sequences in example.parts.items():
            parts[part] = tuple(_reading(tokens, places, ids) for tokens in sequences)
        yield replace(example, parts=parts)


def _reading(tokens: Tokens, places: Iterator[bool], ids: Iterator[int]) -> Tokens:
    inputs = tokens.inputs.copy()
    for at in np.flatnonzero(tokens.weights):
        if next(places):
            inputs[at] = next(ids)
    return replace(tokens, inputs=inputs)


def _sequences(example: Rendered) -> Iterator[Tokens]:
    for sequences in example.parts.values():
        yield from sequences
