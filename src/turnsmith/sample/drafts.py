"""Guesses of what comes next: from what was said already, or by a smaller model.

A guess counts where the model itself draws the same id with its own random numbers, so that replies are what
they would be without guesses, token by token. For a guess that is certain this is the acceptance rule of
arXiv:2211.17192 (alg. 1), since the model draws the guessed id with its own probability of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from turnsmith import album
from turnsmith.errors import ModelError
from turnsmith.sample.choosing import choose
from turnsmith.sample.reading import read_on
from turnsmith.sample.rows import Rows, common
from turnsmith.types import Sampling


class PromptLookup:
    """Guesses that what followed the last few ids the last time will follow again, in prompt or reply.

    most: ids of a guess. match: of the last so many ids, at most and at least, longer matches first.
    Source: prompt look-up decoding, as in transformers' `prompt_lookup_num_tokens`.
    """

    def __init__(self, *, most: int = 6, match: tuple[int, int] = (3, 2)) -> None:
        self.most, self.match = most, match

    def guess(
        self,
        rows: Rows,
        news: Sequence[int],
        uniforms: Sequence[NDArray[np.float32]],
        samplings: Sequence[Sampling],
    ) -> list[list[int]]:
        """What followed, for each row; nothing where nothing was found."""
        return [self._found([*rows.tokens[row], new]) for row, new in enumerate(news)]

    def _found(self, ids: Sequence[int]) -> list[int]:
        longest, shortest = self.match
        for size in range(longest, shortest - 1, -1):
            last = list(ids[-size:])
            for start in range(len(ids) - size - 1, -1, -1):
                if list(ids[start : start + size]) == last:
                    found = ids[start + size : start + size + self.most]
                    return list(takewhile(lambda id: id < album.FIRST, found))
        return []

    def swap(self, one: int, other: int) -> None:
        """It remembers nothing."""


class DraftModel:
    """Guesses what a smaller model with the same vocabulary draws, with the same random numbers.

    model: a causal language model. most: ids of a guess.
    """

    def __init__(self, model: PreTrainedModel, *, most: int = 4) -> None:
        self.model, self.most = model.eval(), most
        self.rows: Rows | None = None

    def guess(
        self,
        rows: Rows,
        news: Sequence[int],
        uniforms: Sequence[NDArray[np.float32]],
        samplings: Sequence[Sampling],
    ) -> list[list[int]]:
        """What the model draws next in each row, `most` ids."""
        own = self._rows_for(rows)
        left: list[list[int]] = []
        for row, new in enumerate(news):
            wanted = [*rows.tokens[row], new]
            own.cut(row, min(common(own.tokens[row], wanted), len(wanted) - 1))
            left.append(wanted[len(own.tokens[row]) :])
        after = read_on(own, 0, left)
        found: list[list[int]] = [[] for _ in news]
        most = min(self.most, *map(len, uniforms))
        for column in range(most):
            drawn = torch.from_numpy(np.array([row[column] for row in uniforms])).to(after.device)
            ids = choose(after, drawn, samplings)[0].tolist()
            for row, id in enumerate(ids):
                found[row].append(id)
            if column + 1 < most:
                after = own.read(range(len(news)), [[id] for id in ids])[:, -1]
        return found

    def swap(self, one: int, other: int) -> None:
        """Its rows follow those of the model."""
        if self.rows is not None:
            self.rows.swap(one, other)

    def _rows_for(self, rows: Rows) -> Rows:
        """Its own rows beside these; ModelError where the two models do not share a vocabulary."""
        own = self.rows
        if own is None or (own.count, own.capacity) != (rows.count, rows.capacity + self.most):
            sizes = [_vocabulary(one) for one in (self.model, rows.base)]
            if sizes[0] != sizes[1]:
                raise ModelError(
                    f"the model that guesses knows {sizes[0]:,} ids and the one that decides {sizes[1]:,}: "
                    "they must have one vocabulary"
                )
            own = self.rows = Rows(self.model, rows.count, rows.capacity + self.most)
        return own


def _vocabulary(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config(decoder=True).vocab_size)
