"""Judging replies by a model that was trained to rate them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import torch

from turnsmith.data.batch import micro_batches
from turnsmith.data.shorten import longest_first
from turnsmith.errors import ModelError
from turnsmith.models import heads
from turnsmith.objectives.coherence import HEAD, rating
from turnsmith.registry import scorer
from turnsmith.scorers.loading import ROW, Judge, loaded
from turnsmith.types import Conversation, Example, Rendered, Score


@scorer("rating", models=("by",), source="James-Yip/QuantiDCE, evaluation/evaluator.py")
class Rating:
    """How well the last reply fits what was said before it, from 1 to 5, as the model `by` says, which was
    trained under `levels`, `rated` or a kin of theirs.

    length: of what is longer, in tokens, the longer of context and reply is cut as in training (`over:
    longest`). Nothing is left unjudged, an empty reply included. The model is loaded at the first call.
    Raises ModelError where it was not trained to rate.
    """

    def __init__(self, *, by: str, length: int = 128) -> None:
        self.length = length
        self._judge = cache(partial(_load, by))

    @torch.no_grad()
    def __call__(self, conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
        scoring, renderer, layout = self._judge()
        asked: list[Rendered] = []
        for number, (one, example) in enumerate(zip(conversations, examples, strict=True)):
            sequence = longest_first(renderer.render(one, "last", example.id)[-1], self.length)
            asked.append(Rendered(str(number), {"text": (sequence,)}))
        found: list[Score] = []
        for run in micro_batches(asked, ROW):
            found += rating(scoring(layout(run), words=False).heads[HEAD]).tolist()
        return found


def _load(reference: str) -> Judge:
    sizes = heads.sizes(reference)
    if HEAD not in sizes:
        raise ModelError(
            f"{reference} has no head that rates: train it under an objective that has one, such as `levels` "
            "or `rated`"
        )
    scoring, renderer, layout = loaded(reference, {HEAD: sizes[HEAD]})
    heads.load(scoring.heads, reference)
    return scoring, renderer, layout
