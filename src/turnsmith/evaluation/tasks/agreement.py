"""Whether a model that rates replies agrees with people."""

from __future__ import annotations

from turnsmith.errors import DataError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.scorers.rating import Rating
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Example, Scorer

SCORE = "score"  # the value under which people's ratings stand


@task(
    "agreement",
    data=True,
    parts=(),
    scorers=("by",),
    source="QuantiDCE 2021; James-Yip/QuantiDCE, evaluation/evaluator.py",
)
class Agreement:
    """Correlation of a model's ratings of replies with those of people: Pearson's, Spearman's and Kendall's.

    on: data whose part `text` ends on the reply that was rated, with the value `score`. by: a scorer that
    judges in the model's place, as a baseline does (`words`, `{likelihood: {by: MODEL}}`, `{likeness: {by:
    MODEL}}`); by default the model itself does, by the scorer `rating`. What cannot be judged fails.
    Raises DataError where an example has no such rating.
    """

    title = "Agreement with people's ratings"
    note = (
        "How a judge's ratings of replies go along with those of people. Only their order, or line, counts."
    )
    metrics = (
        Metric("pearson", "judged", "correlation", "higher", of="replies", reduce="pearson", others=(SCORE,)),
        Metric(
            "spearman", "judged", "correlation", "higher", of="replies", reduce="spearman", others=(SCORE,)
        ),
        Metric("kendall", "judged", "correlation", "higher", of="replies", reduce="kendall", others=(SCORE,)),
    )

    def __init__(self, *, on: str, by: Scorer | None = None) -> None:
        self.on, self.by = on, by

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        examples = bench.examples(self.on)
        scores = [_score(example) for example in examples]
        judge = self.by or Rating(by=subject.name)
        conversations = [conversation_of(example, "text") for example in examples]
        items: list[Item] = []
        ratings = judge(conversations, examples)
        for example, said, judged, score in zip(examples, conversations, ratings, scores, strict=True):
            shown = {"text": said.messages[-1].content, "judged": judged, SCORE: score}
            if judged is None:
                items.append(Item(example.id, "", {}, shown, failed="could not be judged"))
            else:
                items.append(Item(example.id, "", {"judged": judged, SCORE: score}, shown))
        return items


def _score(example: Example) -> float:
    found = example.values.get(SCORE)
    if not isinstance(found, int | float):
        raise DataError(f"example {example.id!r} has no value {SCORE!r}: the rating of people is needed")
    return float(found)
