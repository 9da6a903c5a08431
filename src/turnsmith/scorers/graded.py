"""Judging conversations by the grade that a model is likely to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp
from typing import Literal

from turnsmith.errors import UsageError
from turnsmith.registry import scorer
from turnsmith.scorers.likelihood import Likelihood
from turnsmith.types import Conversation, Example, Message, Score

ASKED = (
    "{dialogue}\n\nGrade the conversation above: {question} "
    "Say one number, {least} the worst and {most} the best."
)


@scorer("graded", models=("by",), source="arXiv:2303.16634 sec. 2, eq. 1 (G-Eval)")
class Graded:
    """The mean of the grades 1 to `grades`, each by how likely the model `by` is to say it when it is asked.

    question: what is to be graded. speakers: `{role}: {text}` of each message is shown, and nobody is
    asked to answer. A model that knows nothing of grades says the same of all: compare it with people
    before its figures are believed.
    """

    def __init__(
        self,
        *,
        by: str,
        question: str = "is it natural, coherent and engaging?",
        grades: int = 3,
        words: Literal["sum", "mean"] = "sum",
    ) -> None:
        if grades < 2:
            raise UsageError(f"graded: grades is {grades}: two or more can be told apart")
        self.likelihood = Likelihood(by=by, words=words)
        self.question, self.grades = question, grades

    def __call__(self, conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
        numbers = range(1, self.grades + 1)
        asked = [self._asked(one) for one in conversations]
        said = [one.then(Message("assistant", str(number))) for one in asked for number in numbers]
        # Apart by their ids, so that the grades of one conversation are laid down together.
        rows = [
            replace(example, meta={**example.meta, "id": str(at)})
            for at, example in enumerate(examples)
            for _ in numbers
        ]
        scores = iter(self.likelihood(said, rows))
        return [expected([next(scores) for _ in numbers]) for _ in conversations]

    def _asked(self, conversation: Conversation) -> Conversation:
        dialogue = "\n".join(f"{one.role}: {one.content}" for one in conversation.messages)
        text = ASKED.format(dialogue=dialogue, question=self.question, least=1, most=self.grades)
        return Conversation((Message("user", text),))


def expected(scores: Sequence[Score]) -> Score:
    """The mean of 1, 2, ... weighed by exp(score); None where one is missing.

    >>> expected([0.0, 0.0, 0.0]), expected([0.0, None])
    (2.0, None)
    """
    known = [one for one in scores if one is not None]
    if len(known) < len(scores):
        return None
    weights = [exp(one - max(known)) for one in known]
    return sum(grade * weight for grade, weight in enumerate(weights, 1)) / sum(weights)
