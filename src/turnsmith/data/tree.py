"""The prefix tree of sequences of token ids: what several share is counted once, and laid down once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


class Kinship:
    """Sequences in the order of a dictionary, and how many tokens each shares with the one before it.

    Two sequences share the least that neighbours between them share, so the tokens that any of them take
    together are counted without a look at the tokens.

    rank: of each sequence, its place in that order. order: the sequence at each place. lengths, common:
    by place; common[0] is 0. family: by place, the number of the tree that the sequence is in.
    """

    def __init__(self, sequences: Sequence[np.ndarray], least: int) -> None:
        keys = [one.astype(">i4").tobytes() for one in sequences]  # big end first: bytes sort like the ids
        self.least = least
        self.order = sorted(range(len(sequences)), key=lambda index: keys[index])
        self.rank = [0] * len(sequences)
        for place, index in enumerate(self.order):
            self.rank[index] = place
        self.lengths = [len(sequences[index]) for index in self.order]
        self.common = [0, *(_common(sequences[a], sequences[b]) for a, b in pairwise(self.order))]
        self.family = np.cumsum([shared < least for shared in self.common]).tolist()

    def tokens(self, places: Sequence[int]) -> int:
        """Tokens that the sequences at these places, ascending, take when what they share is there once."""
        common = [0, *(min(self.common[one + 1 : other + 1]) for one, other in pairwise(places))]
        return sum(self.lengths[place] for place in places) - sum(forks(common, self.least))


def _common(one: np.ndarray, other: np.ndarray) -> int:
    shortest = min(len(one), len(other))
    differ = np.flatnonzero(one[:shortest] != other[:shortest])
    return int(differ[0]) if len(differ) else shortest


def forks(common: Sequence[int], least: int) -> list[int]:
    """How much of each sequence is laid down already, where they come in the order of a dictionary.

    common: tokens that each shares with the one before it. A fork where another one left is free; a new one
    cuts a segment in two, so it must spare `least` tokens over leaving at the fork before it.

    >>> forks([0, 20, 25, 40, 20], least=16)
    [0, 20, 20, 40, 20]
    """
    found: list[int] = []
    path = [0]  # the forks on the way to the sequence before
    for shared in common:
        while path[-1] > shared:
            path.pop()
        if shared - path[-1] >= least:
            path.append(shared)
        found.append(path[-1])
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Sequences laid down in one row, what they share once.

    bounds, parent: the segments, as in `Forest`. routes: for each sequence, the row index of each of its
    tokens.
    """

    bounds: tuple[int, ...]
    parent: tuple[int, ...]
    routes: tuple[np.ndarray, ...]


def grow(sequences: Sequence[np.ndarray], least: int) -> Tree:
    """The prefix tree of the sequences; prefixes of fewer than `least` tokens are not shared."""
    kinship = Kinship(sequences, least)
    begins = forks(kinship.common, least)
    routes: list[np.ndarray] = [np.zeros(0, np.int64)] * len(sequences)
    before, laid = routes[0], 0
    stems: dict[
        int, int
    ] = {}  # row index where tokens of a sequence's own begin -> where what they continue ends
    for index, begin, length in zip(kinship.order, begins, kinship.lengths, strict=True):
        before = np.concatenate([before[:begin], np.arange(laid, laid + length - begin)])
        if length > begin:
            stems[laid] = int(before[begin - 1]) + 1 if begin else 0
        routes[index] = before
        laid += length - begin
    bounds = sorted({0, laid, *stems, *stems.values()})
    number = {end: segment for segment, end in enumerate(bounds[1:])}
    number[0] = -1
    parent = tuple(number[stems.get(start, start)] for start in bounds[:-1])
    return Tree(tuple(bounds), parent, tuple(routes))
