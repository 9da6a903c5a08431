"""Judging conversations by how likely a model finds what is said last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from itertools import groupby
from typing import Literal

import torch

from turnsmith.data.batch import micro_batches
from turnsmith.registry import scorer
from turnsmith.scorers.loading import ROW, loaded
from turnsmith.types import Conversation, Example, Rendered, Score


@scorer("likelihood", models=("by",))
class Likelihood:
    """Log-probability under the model `by` of what counts of each conversation, in nats.

    In a chat that is the last reply, its stop token included; of plain text, what has a weight. words: of
    several tokens their `sum`, or their `mean`. What neighbouring conversations of one example share is
    computed once. The model is loaded at the first call. Nothing is left unjudged.
    """

    def __init__(self, *, by: str, words: Literal["sum", "mean"] = "sum") -> None:
        self.words = words
        self._judge = cache(partial(loaded, by))

    @torch.no_grad()
    def __call__(self, conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
        scoring, renderer, layout = self._judge()
        pairs = zip(conversations, examples, strict=True)
        asked: list[Rendered] = []
        for id, ones in groupby(pairs, key=lambda pair: pair[1].id):
            sequences = tuple(renderer.render(one, "last", id)[-1] for one, _ in ones)
            asked.append(Rendered(id, {"said": sequences}))
        found: list[Score] = []
        for run in micro_batches(asked, ROW):
            scores = scoring(layout(run))
            found += (scores.sums("said") if self.words == "sum" else scores.means("said")).tolist()
        return found
