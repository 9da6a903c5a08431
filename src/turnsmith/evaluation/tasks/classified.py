"""Which class a model finds likeliest, by the words of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from turnsmith.data.batch import micro_batches
from turnsmith.errors import DataError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.stages.labels import CLASS, PART
from turnsmith.types import Example


@task("classified", data=True, parts=("labels",))
class Classified:
    """The share of examples whose class has the likeliest words, macro F1, and how unlikely the right one is.

    on: data of the stage `labelled`. words: as the objective `verbalised` has them: of several tokens the
    `sum` of log-probs or their `mean`. Of equally likely classes the first counts. length: examples that do
    not fit into so many tokens are left out.
    """

    title = "Classes by their words"
    note = (
        "The class whose words the model finds likeliest behind the text. Macro F1 is the mean of F1 over "
        "classes, whatever their number of examples."
    )
    metrics = (
        Metric("accuracy", "right", "share", "higher", of="examples", chance=True),
        Metric("macro F1", "said", "share", "higher", of="examples", reduce="f1-macro", others=("class",)),
        Metric("loss", "loss", "nats per example", "lower", of="examples"),
    )

    def __init__(self, *, on: str, words: Literal["sum", "mean"] = "sum", length: int = 512) -> None:
        self.on, self.words, self.length = on, words, length

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        return classified(subject, bench.examples(self.on), self.words, self.length)


@torch.no_grad()
def classified(subject: Subject, examples: Sequence[Example], words: str, length: int) -> list[Item]:
    """For each example: `said` and `class`, numbers of classes; `right`, 1 where they are the same; `loss`,
    in nats; `chance`."""
    truth = {example.id: class_of(example) for example in examples}
    rendered = subject.rendered(examples, (PART,), length=length, over="drop", train="last")
    items: list[Item] = []
    for run in micro_batches(rendered, subject.row):
        scores = subject.scoring(subject.batch(run))
        found = scores.sums(PART) if words == "sum" else scores.means(PART)
        for example, own in zip(run, found.split([len(one.parts[PART]) for one in run]), strict=True):
            said, number = int(own.argmax()), truth[example.id]
            values = {
                "said": float(said),
                "class": float(number),
                "right": float(said == number),
                "loss": float(-own.log_softmax(0)[number]),
                "chance": 1 / len(own),
            }
            items.append(Item(example.id, "", values))
    return items


def class_of(example: Example) -> int:
    """The number of the example's class in truth; DataError where it is not known."""
    found = example.meta.get(CLASS)
    if not isinstance(found, int):
        raise DataError(f"example {example.id!r} has no class in truth: `labelled` takes it from its label")
    return found
