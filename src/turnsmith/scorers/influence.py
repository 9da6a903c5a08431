"""Judging replies by how far the levels of what was asked tell the levels of what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from turnsmith.errors import DataError, UsageError
from turnsmith.registry import scorer
from turnsmith.retrieve.influence import Over, influence
from turnsmith.scorers.embedding import Embedder
from turnsmith.scorers.likeness import spoken
from turnsmith.types import Conversation, Example, Score


@scorer("influence", models=("by",), source="arXiv:2402.17081")
class Influence:
    """The quantised influence measure of what was said before the last reply, joined by spaces, on the reply,
    both as embeddings of the model `by`; it stands in for a judge that would have to be trained.

    reference: key of the metadata whose text stands in the place of what was said, e.g. a right answer.
    levels: of each embedding's own range; over: what it is divided by, their deviation or its square. With as
    many levels as coordinates nothing is told. It does not see
    signs, and it is not made for states in which a few coordinates dwarf all others, as those of most models
    that speak: what is left then lies on one or two levels. length: tokens of a text, of which further ones
    are left out. A blank reply is not judged. The model is loaded at the first call. Raises DataError where
    nothing was said before, or the metadata have no such text.
    """

    def __init__(
        self,
        *,
        by: str,
        reference: str | None = None,
        levels: int = 16,
        over: Literal["deviation", "variance"] = "deviation",
        length: int = 128,
    ) -> None:
        if levels < 2:
            raise UsageError(f"influence: levels is {levels}: two or more can be told apart")
        self.reference, self.levels = reference, levels
        self.over: Over = over
        self.embedded = Embedder(by, length)

    def __call__(self, conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
        pairs = [self._compared(one, example) for one, example in zip(conversations, examples, strict=True)]
        vectors = (
            self.embedded([text for pair in pairs for text in pair]).numpy(force=True).astype(np.float64)
        )
        found: list[Score] = []
        for place, (_, reply) in enumerate(pairs):
            query, row = vectors[2 * place], vectors[2 * place + 1 : 2 * place + 2]
            if reply.strip():
                found.append(float(influence(query, row, levels=self.levels, over=self.over)[0]))
            else:
                found.append(None)
        return found

    def _compared(self, conversation: Conversation, example: Example) -> tuple[str, str]:
        said, reply = spoken(conversation, example)
        if self.reference is None:
            return said, reply
        found = example.meta.get(self.reference)
        if not isinstance(found, str) or not found.strip():
            raise DataError(
                f"example {example.id!r}: {self.reference!r} of its metadata is {found!r}: the text of a "
                "reference is needed"
            )
        return found, reply
