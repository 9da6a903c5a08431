"""Judging replies by how like they are to what was said before, in the eyes of a model that was taught
nothing of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F

from turnsmith.data.batch import micro_batches, pad
from turnsmith.errors import DataError
from turnsmith.models.score import to
from turnsmith.registry import scorer
from turnsmith.scorers.loading import ROW, loaded
from turnsmith.types import Conversation, Example, Message, Rendered, Score


@scorer("likeness", models=("by",), source="arXiv:1908.10084 sec. 3")
class Likeness:
    """The cosine of two embeddings: that of all that was said before the last reply, joined by spaces, and
    that of the reply.

    An embedding is the mean of the last states of the model `by` over the tokens of a text alone, marks
    included, as sentence encoders are trained. length: tokens of a text, of which further ones are left out.
    The model is loaded at the first call. Raises DataError where nothing was said before.
    """

    def __init__(self, *, by: str, length: int = 128) -> None:
        self.length = length
        self._judge = cache(partial(loaded, by))

    @torch.no_grad()
    def __call__(self, conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
        texts: list[str] = []
        for one, example in zip(conversations, examples, strict=True):
            *before, last = one.messages
            if not before:
                raise DataError(f"example {example.id!r}: nothing was said before its last message")
            texts += [" ".join(message.content for message in before), last.content]
        every = self._embedded(texts)
        return F.cosine_similarity(every[0::2], every[1::2]).tolist() if texts else []

    def _embedded(self, texts: Sequence[str]) -> Tensor:
        """(len(texts), H)."""
        scoring, renderer, _ = self._judge()
        asked: list[Rendered] = []
        for number, text in enumerate(texts):
            whole = renderer.render(Conversation((Message("user", text),)), "all", str(number))[-1]
            asked.append(Rendered(str(number), {"text": (whole.cut(self.length),)}))
        found: list[Tensor] = []
        for run in micro_batches(asked, ROW):
            batch = pad(run)
            assert batch.mask is not None
            mask = batch.mask.to(scoring.device)
            states = scoring.hidden(to(batch, scoring.device)).reshape(*mask.shape, -1).float()
            found.append((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        return torch.cat(found) if found else torch.empty(0, 0)
