"""Answers that are right or wrong, letter by letter."""

from __future__ import annotations

from collections.abc import Iterator

from turnsmith.errors import DataError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject, answered
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
        items: list[Item] = []
        asked: dict[str, Conversation] = {}
        for id, opening, right in references(bench, self.on, self.count):
            asked[id] = opening
            items.append(Item(id, "", {}, {"reference": right.strip()}))
        return answered(subject, asked, self.sampling, items, _judged)


def references(bench: Bench, on: str, count: int | None) -> Iterator[tuple[str, Conversation, str]]:
    """Of the first `count` examples, all where it is None: id, what is asked, and the last answer in truth.
    Raises DataError where there is none."""
    for example in list(bench.examples(on))[:count]:
        text = example.parts.get("text")
        if not isinstance(text, Conversation) or not text.opening.messages:
            raise DataError(f"example {example.id!r} of {on!r} has no answer to compare with")
        yield example.id, text.opening, text.messages[len(text.opening.messages)].content


def _judged(item: Item, reply: Reply) -> tuple[dict[str, float], dict[str, Json]]:
    said = reply.message.content.strip()
    return {"right": float(said == item.shown["reference"])}, {"text": said}
