"""Judging conversations by a model that was trained to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import torch

from turnsmith.data.batch import micro_batches
from turnsmith.errors import ModelError
from turnsmith.models import heads
from turnsmith.models.locate import locate
from turnsmith.registry import scorer
from turnsmith.scorers.loading import ROW, Judge, loaded
from turnsmith.types import Conversation, Example, Rendered, Score

HEAD = "reward"


@scorer("reward_model", models=("by",), source="arXiv:2203.02155 sec. 3.5")
class RewardModel:
    """What the model `by`, trained under `reward` or `ranking`, says at the last token of each conversation.

    An answer that was drawn is read as its ids, with the end of its turn behind them whether it was drawn or
    not. length: conversations that are longer, in tokens, are not judged. The model is loaded at the first
    call. Raises ModelError where it was not trained to judge.
    """

    def __init__(self, *, by: str, length: int = 2048) -> None:
        self.length = length
        self._judge = cache(partial(_load, by))

    @torch.no_grad()
    def __call__(self, conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
        scoring, renderer, layout = self._judge()
        found: list[Score] = [None] * len(conversations)
        asked: list[Rendered] = []
        for number, (one, example) in enumerate(zip(conversations, examples, strict=True)):
            sequence = renderer.render(one, "last", example.id)[-1]
            if len(sequence) <= self.length:
                asked.append(Rendered(str(number), {"text": (sequence,)}))
        for run in micro_batches(asked, ROW):
            said = scoring(layout(run), words=False).heads[HEAD]
            for example, number in zip(run, said.tolist(), strict=True):
                found[int(example.id)] = number
        return found


def _load(reference: str) -> Judge:
    if not (locate(reference) / heads.FILE).is_file():
        raise ModelError(
            f"{reference} has no head that judges: train it under the objective `reward` or `ranking` first"
        )
    scoring, renderer, layout = loaded(reference, {HEAD: ("last", 1)})
    if heads.load(scoring.heads, reference):
        raise ModelError(
            f"{reference} has heads, and not one that judges alone: train it under `reward` or `ranking`"
        )
    return scoring, renderer, layout
