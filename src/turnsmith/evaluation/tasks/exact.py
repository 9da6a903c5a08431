"""Answers that are right or wrong, letter by letter."""

from __future__ import annotations

from turnsmith.errors import DataError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Judged, Subject, answered
from turnsmith.registry import task
from turnsmith.types import Conversation, Json, Reply, Sampling


@task("exact", data=True, asks="replies")
class Exact:
    """The share of conversations whose last answer the model writes exactly, blanks at the ends apart.

    on: the data. count: how many of them, from the first. temperature: 0 is greedy. max_new: answers are cut
    after so many tokens.
    """

    title = "Exact answers"
    note = "Whether the model, asked the same, writes the last answer of the conversation letter by letter."
    metrics = (Metric("exact answers", "right", "share", "higher"),)

    def __init__(
        self, *, on: str, count: int | None = None, temperature: float = 0.0, max_new: int = 32
    ) -> None:
        self.on, self.count = on, count
        self.sampling = Sampling(temperature=temperature, max_new=max_new)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        return against_references(subject, bench, self.on, self.count, self.sampling, _judged)


def against_references(
    subject: Subject, bench: Bench, on: str, count: int | None, sampling: Sampling, judged: Judged
) -> list[Item]:
    """An item of each of the first `count` examples: what the subject says in the place of the last answer,
    which is shown as `reference`, judged. Raises DataError where there is no answer."""
    items: list[Item] = []
    asked: dict[str, Conversation] = {}
    for example in bench.examples(on)[:count]:
        text = example.parts.get("text")
        if not isinstance(text, Conversation) or not text.opening.messages:
            raise DataError(f"example {example.id!r} of {on!r} has no answer to compare with")
        asked[example.id] = text.opening
        reference = text.messages[len(text.opening.messages)].content.strip()
        items.append(Item(example.id, "", {}, {"reference": reference}))
    return answered(subject, asked, sampling, items, judged)


def _judged(item: Item, reply: Reply) -> tuple[dict[str, float], dict[str, Json]]:
    said = reply.message.content.strip()
    return {"right": float(said == item.shown["reference"])}, {"text": said}
