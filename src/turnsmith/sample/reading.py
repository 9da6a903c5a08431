"""Prompts into rows: what they have in common with each other, or with what was read before, is not read
again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from turnsmith.sample.rows import Known, Rows, common

SHARED = 16  # from this length on, what prompts begin with together is read once before they are
TOGETHER = 2048  # tokens of a forward pass over several prompts, at most
PIECE = 512  # and over one: less of what it computes is then hidden by the mask
FULL = 0.75  # share of such a pass that is no padding, at least


class Prompt(NamedTuple):
    """A prompt. reader: who reads it (see Rows.readers). beside: the ids that models in step read instead."""

    reader: str
    ids: tuple[int, ...]
    beside: tuple[tuple[int, ...], ...] = ()


def read_prompts(rows: Rows, prompts: Sequence[Prompt], first: int, known: Sequence[Rows] = ()) -> Tensor:
    """Make `prompts`, all different, the rows from `first` on; gives the logits (P, V) after each.

    What those rows held is lost, apart from what the prompts begin with. known: other rows to copy from.
    """
    _place(rows, prompts, first, known)
    _read_shared(rows, prompts, first)
    left = [prompt.ids[len(rows.tokens[row]) :] for row, prompt in enumerate(prompts, start=first)]
    return read_on(rows, first, left)


def read_on(rows: Rows, first: int, news: Sequence[Sequence[int]]) -> Tensor:
    """Read `news` behind what the rows from `first` on hold, alike ones together; logits (P, V) after."""
    found: dict[int, Tensor] = {}
    for some in together([len(ids) for ids in news]):
        logits = _read(rows, [first + number for number in some], [news[number] for number in some])
        found.update(zip(some, logits, strict=True))
    return torch.stack([found[number] for number in range(len(news))])


def _place(rows: Rows, prompts: Sequence[Prompt], first: int, known: Sequence[Rows]) -> None:
    """Bring what is known of each prompt into its row."""
    table = Known([rows, *known])
    sources = [table.find(prompt.ids, prompt.reader) for prompt in prompts]
    free = list(range(first, rows.count))
    where: dict[int, int] = {}
    # Where a row that is to be filled anew begins as a prompt does, the prompt goes on there. Nobody else's
    # beginning is lost by that: a row that is the best one for several goes to one of them.
    for number, source in enumerate(sources):
        if source and source[1] is rows and source[2] in free:
            where[number] = source[2]
            free.remove(source[2])
    stayed = list(where)
    for number, source in enumerate(sources):
        if number in where:
            continue
        where[number] = free.pop(0)
        if source:
            rows.copy(where[number], source[1], source[2], source[0])
        else:
            rows.begin(where[number], prompts[number].reader)
    for number in stayed:
        source = sources[number]
        assert source is not None
        rows.cut(where[number], source[0])
    at = {row: number for number, row in where.items()}
    for number, prompt in enumerate(prompts):
        row = where[number]
        rows.cut(row, len(prompt.ids) - 1)  # the last one is always read, for what comes after it
        rows.swap(first + number, row)
        moved = at.get(first + number)
        if moved is not None:
            where[moved], at[row] = row, moved
        at[first + number], where[number] = number, first + number


def _read_shared(rows: Rows, prompts: Sequence[Prompt], first: int) -> None:
    """Read what all prompts begin with, where that is much more than is known of any."""
    if len(prompts) < 2 or len({prompt.reader for prompt in prompts}) > 1:
        return
    every = [prompt.ids for prompt in prompts]
    # In their order, the first and the last differ where any two do.
    shared = min(common(min(every), max(every)), min(map(len, every)) - 1)
    held = [len(rows.tokens[row]) for row in range(first, first + len(prompts))]
    if shared - max(held) < SHARED:
        return
    _read(rows, [first], [every[0][held[0] : shared]])
    for row in range(first + 1, first + len(prompts)):
        rows.copy(row, rows, first, shared)


def together(sizes: Sequence[int]) -> list[list[int]]:
    """Numbers of prompts to be read in one pass, of which `sizes` tokens are left: alike, and not too many.

    >>> together([100, 5, 4, 98])
    [[0, 3], [1, 2]]
    """
    order = sorted(range(len(sizes)), key=lambda number: -sizes[number])
    found: list[list[int]] = []
    for number in order:
        some = found[-1] if found else []
        area = (len(some) + 1) * sizes[some[0]] if some else 0
        full = sum(sizes[one] for one in some) + sizes[number] >= FULL * area
        if some and area <= TOGETHER and full:
            some.append(number)
        else:
            found.append([number])
    return found


def _read(rows: Rows, some: Sequence[int], news: Sequence[Sequence[int]]) -> Tensor:
    """Logits (B, V) after the last of `news`; a single long one is read in pieces."""
    if len(some) == 1:
        (new,) = news
        *pieces, last = (new[start : start + PIECE] for start in range(0, len(new), PIECE))
        for piece in pieces:
            rows.read(some, [piece])
        news = [last]
    return rows.read(some, news)[:, -1]
