"""What becomes of examples that take more than a row, said before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from turnsmith.data.batch import Layout, cut, slots
from turnsmith.data.store import sizes_of
from turnsmith.registry import Per
from turnsmith.types import Rendered


def longest(examples: Sequence[Rendered], seen: np.ndarray, row: int, layout: Layout, per: Per) -> int:
    """Token positions of the longest row that has to be: of a whole example, or where the loss is a sum over
    tokens, of one of its conversations."""
    sizes = sizes_of(examples)[0][seen]
    found = [min(row, int(sizes.max(initial=0)))]
    for index in seen[sizes > row]:
        example = examples[int(index)]
        pieces = cut(example, row, layout) if per == "token" else [example]
        found += [slots(piece, layout) for piece in pieces]
    return max(found)


def over_the_row(
    examples: Sequence[Rendered], seen: np.ndarray, row: int, layout: Layout, per: Per
) -> Iterator[str]:
    """Sentences about those of the examples with the indices `seen` that do not fit into a row.

    Only those are read whose conversations together are longer than a row.
    """
    whole: list[int] = []
    apart: list[int] = []
    for index in seen[sizes_of(examples)[0][seen] > row]:
        example = examples[int(index)]
        if (taken := slots(example, layout)) <= row:
            continue
        pieces = cut(example, row, layout) if per == "token" else [example]
        if len(pieces) > 1:
            apart.append(taken)
        whole += [own for piece in pieces if (own := slots(piece, layout)) > row]
    if apart:
        yield (
            f"cut: {_count(apart)} over the row of {row:,} tokens, up to {max(apart):,}, between whole "
            "conversations; each row repeats their prefix, which a larger fit.row would compute once"
        )
    if whole:
        yield (
            f"longer rows: {_count(whole)} over the row of {row:,} tokens, up to {max(whole):,}; each runs "
            "alone in a row of its own length, and memory grows with it"
        )


def _count(sizes: Sequence[int]) -> str:
    return f"{len(sizes):,} example{'s' * (len(sizes) > 1)}"
