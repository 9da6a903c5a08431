"""How much of the reference the model's replies have in common with it."""

from __future__ import annotations

from turnsmith.data.overlap import rouge_l
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.evaluation.tasks.exact import against_references
from turnsmith.registry import task
from turnsmith.types import Json, Reply, Sampling


@task("rouge", data=True, asks="replies", source="Lin 2004, sec. 3.1", version=2)
class Rouge:
    """ROUGE-L of the reply to each conversation with the last one in it: F1 of the longest common sequence of
    words.

    on: the data. count: how many of them, from the first. temperature: 0 is greedy. max_new: replies are cut
    after so many tokens.
    """

    title = "Overlap with the reference"
    note = "ROUGE-L, in words: 1 where the reply is the reference, 0 where they share no word."
    metrics = (Metric("ROUGE-L", "rouge", "share", "higher"),)

    def __init__(
        self, *, on: str, count: int | None = None, temperature: float = 0.0, max_new: int = 64
    ) -> None:
        self.on, self.count = on, count
        self.sampling = Sampling(temperature=temperature, max_new=max_new)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        return against_references(subject, bench, self.on, self.count, self.sampling, _judged)


def _judged(item: Item, reply: Reply) -> tuple[dict[str, float], dict[str, Json]]:
    said = reply.message.content
    return {"rouge": rouge_l(said, str(item.shown["reference"]))}, {"text": said}
