"""How much wrong labels would count, and right ones, if they were weighed by the gradients of true labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from turnsmith import seeds
from turnsmith.data.batch import micro_batches
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.evaluation.tasks.classified import class_of
from turnsmith.models import own
from turnsmith.objectives.labels import agreement, normalised, verbalised
from turnsmith.registry import task
from turnsmith.stages.labels import PART, targets
from turnsmith.train.look import gradient
from turnsmith.train.method import Method
from turnsmith.types import Example, Rendered

EVEN = 1.0  # the mean of all weights


@task("weighed", data=True, parts=("labels",), beside=("labelled",), source="arXiv:2110.06274 sec. 3.3")
class Weighed:
    """The weights of `reweighted` that examples get whose label is wrong in truth, and those of the others.

    on: examples with labels of which some are wrong, as `pseudo_labelled` makes them, whose class in truth is
    known. labelled: data with true labels. Examples are weighed among `batch` others against the gradient of
    all true labels, over the adapters that the model carries; the mean of all weights is 1. A model that
    carries none weighs all alike. length: examples that do not fit into so many tokens are left out.
    """

    title = "Weights of wrong labels"
    note = (
        "How much an example would count in the next step of training, where the gradients of true labels "
        "decide: 1 is as much as all do on average. Wrong labels should count less."
    )
    metrics = (
        Metric("weight of wrong labels", "weight", "times the mean", "lower", "wrong", "wrong labels"),
        Metric("weight of right labels", "kept", "times the mean", "higher", "right", "right labels"),
    )

    def __init__(self, *, on: str, labelled: str, batch: int = 16, length: int = 512) -> None:
        self.on, self.labelled, self.batch, self.length = on, labelled, batch, length

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        data = bench.examples(self.on)
        weights = weigh(subject, data, bench.examples(self.labelled), self.batch, self.length)
        items: list[Item] = []
        for example in data:
            if example.id not in weights:
                continue
            target = targets(example)
            right = float(target.index(max(target)) == class_of(example))
            weight = weights[example.id]
            values = {
                "weight": weight * (1 - right),
                "wrong": 1 - right,
                "kept": weight * right,
                "right": right,
            }
            items.append(Item(example.id, "", values, {"class": class_of(example)}))
        return items


def weigh(
    subject: Subject, data: Sequence[Example], labelled: Sequence[Example], batch: int, length: int
) -> dict[str, float]:
    """The weight of each example, by its id, among those that are drawn into one batch with it."""
    rendered, true = (
        subject.rendered(ones, (PART,), length=length, over="drop", train="last") for ones in (data, labelled)
    )
    carried = own.of(subject.scoring.model)
    if carried is None:
        return {one.id: EVEN for one in rendered}
    parts = [p for name, p in subject.scoring.model.named_parameters() if name in carried.names]
    seeds.stream(0, "weighed").shuffle(rendered)
    asked = [p.requires_grad for p in parts]
    found: dict[str, float] = {}
    try:
        for p in parts:
            p.requires_grad_(True)
        wanted = _gradient(subject, true, parts)
        for first in range(0, len(rendered), batch):
            run = rendered[first : first + batch]
            weights = normalised([agreement(wanted, _gradient(subject, [one], parts)) for one in run])
            found |= {one.id: len(run) * weight for one, weight in zip(run, weights, strict=True)}
    finally:
        for p, before in zip(parts, asked, strict=True):
            p.requires_grad_(before)
    return found


def _gradient(subject: Subject, examples: Sequence[Rendered], parts: Sequence[nn.Parameter]) -> list[Tensor]:
    batches = [subject.batch(run) for run in micro_batches(examples, subject.row)]
    return gradient(subject.scoring, batches, Method(verbalised, "example"), parts)
