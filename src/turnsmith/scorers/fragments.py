"""Judging what is said so far by what would have been right: piece by piece, or by a model's own grade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp

from turnsmith.data.fragments import pieces
from turnsmith.errors import DataError
from turnsmith.registry import scorer
from turnsmith.scorers.likelihood import Likelihood
from turnsmith.types import Conversation, Example, Message, Score

GRADES = {"A": 1.0, "B": 0.1, "C": -1.0, "D": -2.0}
ASKED = (
    "The right answer is:\n{truth}\nThis was said so far:\n{said}\nHow good is it? A part of the right "
    "answer is excellent. A: excellent, B: acceptable, C: fair, D: poor. Say the letter."
)


@scorer("pieces_right")
def pieces_right(conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
    """How far the last message is the beginning of the right answer, from -1 to 1: twice the share of its
    pieces that stand there in the right answer too, less 1.

    The right answer is what the assistant says last in the example's `text`; both are cut behind `(`, `=`,
    and the marks between arguments and sentences. None where nothing was said. Raises DataError where there
    is no right answer.
    """
    return [_right(*one) for one in zip(conversations, examples, strict=True)]


@scorer("self_graded", models=("by",), source="arXiv:2501.09766; zeng-yirong/iTool, mcts/mcts_vllm.py")
class SelfGraded:
    """What the model `by` grades the last message, of which the right answer is shown to it: A excellent, B
    acceptable, C fair, D poor, each by how likely it is to be said: (A + 0.1 B - C - 2 D) / 4.

    Probabilities are those among the four. The right answer is as of `pieces_right`.
    """

    def __init__(self, *, by: str) -> None:
        self.likelihood = Likelihood(by=by)

    def __call__(self, conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
        asked = [_question(*one) for one in zip(conversations, examples, strict=True)]
        said = [one.then(Message("assistant", letter)) for one in asked for letter in GRADES]
        # Apart by their ids, so that the letters of one conversation are laid down together.
        rows = [
            replace(example, meta={**example.meta, "id": str(at)})
            for at, example in enumerate(examples)
            for _ in GRADES
        ]
        scores = iter(self.likelihood(said, rows) if said else [])
        return [grade([next(scores) for _ in GRADES]) for _ in asked]


def grade(scores: Sequence[Score]) -> Score:
    """The mean grade by log-probabilities of the four letters, divided by 4; None where one is missing.

    >>> grade([0.0, -1e9, -1e9, -1e9]), grade([0.0, 0.0, 0.0, None])
    (0.25, None)
    """
    known = [one for one in scores if one is not None]
    if len(known) < len(scores):
        return None
    weights = [exp(one - max(known)) for one in known]
    found = zip(weights, GRADES.values(), strict=True)
    return sum(weight * worth for weight, worth in found) / sum(weights) / len(GRADES)


def truth_of(example: Example) -> str:
    """What the assistant says last in the example's `text`. Raises DataError where it says nothing."""
    text = example.parts.get("text")
    last = text.messages[-1] if isinstance(text, Conversation) and text.messages else Message("user", "")
    if last.role != "assistant":
        raise DataError(f"example {example.id!r} does not end on the assistant's right answer in its `text`")
    return last.content


def _right(conversation: Conversation, example: Example) -> Score:
    said, truth = pieces(conversation.messages[-1].content), pieces(truth_of(example))
    if not said:
        return None
    right = [one == own for one, own in zip(said, truth, strict=False)]
    if len(said) <= len(truth) and truth[len(said) - 1].startswith(said[-1]):
        right[-1] = True  # it ends in the middle of a piece
    return 2 * sum(right) / len(said) - 1


def _question(conversation: Conversation, example: Example) -> Conversation:
    said = conversation.messages[-1].content
    return Conversation((Message("user", ASKED.format(truth=truth_of(example), said=said)),))
