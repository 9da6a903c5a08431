"""A table of questions and answers that is small enough to be looked through as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from turnsmith.errors import DataError, UsageError
from turnsmith.retrieve.influence import LEVELS, Over, Vectors, influence

Similarity = Literal["cosine", "dot", "euclidean", "influence"]


def similarities(
    query: Vectors,
    rows: Vectors,
    *,
    by: Similarity = "influence",
    levels: int = LEVELS,
    over: Over = "deviation",
) -> NDArray[np.float64]:
    """How near each row comes to the query: (R,), higher being nearer.

    query: (d,). rows: (R, d). by: the `cosine`, the `dot` product, the `euclidean` distance with its sign
    turned, or the quantised `influence`, which alone reads levels and over. Raises DataError where a vector
    has no direction (cosine) or no range (influence).

    >>> similarities(np.array([3.0, 4.0]), np.array([[3.0, 4.0], [0.0, 0.0]]), by="euclidean")
    array([-0., -5.])
    """
    if by == "influence":
        return influence(query, rows, levels=levels, over=over)
    if by == "dot":
        return rows @ query
    if by == "euclidean":
        return -np.linalg.norm(rows - query, axis=1)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    if not lengths.all():
        raise DataError(
            "cosine: a vector of length 0 has no direction: is the text that it stands for empty?"
        )
    return rows @ query / lengths


def ranked(nearness: NDArray[np.float64], *, top_n: int = 2) -> list[int]:
    """The places of the `top_n` nearest rows, the nearest first, of equals the earlier; all, where there are
    no more. nearness: (R,). Raises UsageError unless top_n is at least 1.

    >>> ranked(np.array([0.5, 2.0, 0.5])), ranked(np.array([1.0]), top_n=9)
    ([1, 0], [0])
    """
    if top_n < 1:
        raise UsageError(f"top_n is {top_n}: at least one row has to be looked up")
    return np.argsort(-nearness, kind="stable")[:top_n].tolist()


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Stored questions and answers. vectors: (R, d), of the questions."""

    pairs: Sequence[tuple[str, str]]
    vectors: Vectors

    def __post_init__(self) -> None:
        if not self.pairs or len(self.pairs) != len(self.vectors):
            raise DataError(
                f"a table needs rows, and a vector for each: {len(self.pairs)} and {len(self.vectors)}"
            )

    def nearest(
        self,
        query: Vectors,
        *,
        by: Similarity = "influence",
        levels: int = LEVELS,
        over: Over = "deviation",
        top_n: int = 2,
    ) -> list[tuple[str, str]]:
        """The `top_n` pairs whose questions come nearest to the query (d,), the nearest first."""
        nearness = similarities(query, self.vectors, by=by, levels=levels, over=over)
        return [self.pairs[place] for place in ranked(nearness, top_n=top_n)]


def told(pairs: Sequence[tuple[str, str]]) -> str:
    """The pairs as one text to answer from, a line each.

    >>> told([("Where?", "Here."), ("When?", "Now.")])
    'Q: Where?; A: Here.\\nQ: When?; A: Now.'
    """
    return "\n".join(f"Q: {question}; A: {answer}" for question, answer in pairs)
