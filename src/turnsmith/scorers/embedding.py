"""Texts as vectors: the mean of a model's last states over each of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import torch
from torch import Tensor

from turnsmith.data.batch import micro_batches, pad
from turnsmith.data.render import Renderer
from turnsmith.models.score import Scoring, to
from turnsmith.scorers.loading import ROW, loaded
from turnsmith.types import Conversation, Message, Rendered


class Embedder:
    """What makes vectors of texts with the model `by`, which is loaded at the first call.

    length: tokens of a text, of which further ones are left out.
    """

    def __init__(self, by: str, length: int) -> None:
        self.length = length
        self._judge = cache(partial(loaded, by))

    def __call__(self, texts: Sequence[str]) -> Tensor:
        scoring, renderer, _ = self._judge()
        return embedded(texts, scoring, renderer, length=self.length)


@torch.no_grad()
def embedded(texts: Sequence[str], scoring: Scoring, renderer: Renderer, *, length: int) -> Tensor:
    """The mean of the last states over the tokens of each text alone, at most `length` of them: (n, H).

    An encoder reads a text between its marks, as sentence encoders are trained. A model that speaks reads it
    without its chat template, whose words would be the better part of every mean. An empty text is read as a
    blank.
    """
    role = "text" if scoring.speaks else "user"
    asked: list[Rendered] = []
    for number, text in enumerate(texts):
        whole = renderer.render(Conversation((Message(role, text or " "),)), "all", str(number))[-1]
        asked.append(Rendered(str(number), {"text": (whole.cut(length),)}))
    found: list[Tensor] = []
    for run in micro_batches(asked, ROW):
        batch = pad(run)
        assert batch.mask is not None
        mask = batch.mask.to(scoring.device)
        states = scoring.hidden(to(batch, scoring.device)).reshape(*mask.shape, -1).float()
        found.append((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
    return torch.cat(found) if found else torch.empty(0, 0)
