"""Texts that are there twice: exactly, nearly, and prompts that are answered in different ways.

Nearly means that two texts share about 0.8 and more of their runs of five words (Jaccard index). Each text
is sketched by the smallest of its hashed runs under 120 hash functions (MinHash, Broder 1997); texts of which
one band of six minima agrees are compared by the share of all minima that agree, which estimates the index
with a standard error of at most 0.05. A pair at 0.8 shares a band with probability 0.998.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

WIDTH = 5  # words in a run
BANDS, BAND = 20, 6
LIKE = 0.8
BLOCK = 2048  # runs that are hashed at once, so that a text of 10 MB takes no more memory than a short one
LEADERS = 100  # texts of one band that others are compared with; beyond it pairs are left out, and counted
# Scripts without spaces count by character: kana, Han, Thai, Lao, Burmese, Khmer.
SINGLE = "\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
WORD = re.compile(f"[{SINGLE}]|[^\\W{SINGLE}]+")

Numbers = np.ndarray[tuple[int, ...], np.dtype[Any]]
_random = np.random.default_rng(1997)
FACTORS = _random.integers(1 << 62, size=BANDS * BAND, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
OFFSETS = _random.integers(1 << 63, size=BANDS * BAND, dtype=np.uint64)
POWERS = np.array([0x9E3779B97F4A7C15**k % 2**64 for k in range(max(WIDTH, BAND))], np.uint64)


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows that belong together. surplus: rows beyond the first of each group. first: the largest groups.

    left_out: comparisons that were not made, so that groups may be missing.
    """

    count: int
    surplus: int
    first: tuple[tuple[int, ...], ...]
    left_out: int = 0


class Keys:
    """The hash of what each row says, eight bytes each; among a million, hardly ever two agree."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, said: Hashable) -> int:
        """Take in what the next row says; gives its hash."""
        self._hashes.append(hash(said))
        return self._hashes[-1]

    def array(self) -> Numbers:
        return np.array(self._hashes, np.int64)


def equal(keys: Numbers, *, shown: int = 5) -> Groups:
    """Groups of rows whose keys are equal."""
    _, number, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return _groups(number, counts > 1, shown)


def different(prompts: Numbers, answers: Numbers, *, shown: int = 5) -> Groups:
    """Groups of rows whose prompts are equal and whose answers are not all the same."""
    _, number = np.unique(prompts, return_inverse=True)
    pairs = np.unique(np.stack([number, answers]), axis=1)
    return _groups(number, np.bincount(pairs[0], minlength=int(number.max(initial=-1)) + 1) > 1, shown)


def _groups(number: Numbers, wanted: Numbers, shown: int) -> Groups:
    """number: the group of each row. wanted: which groups count."""
    sizes = np.bincount(number, minlength=len(wanted)) * wanted
    earliest = np.zeros(len(wanted), np.int64)
    earliest[number[::-1]] = np.arange(len(number))[::-1]
    largest = [group for group in np.lexsort((earliest, -sizes))[:shown] if sizes[group]]
    first = tuple(tuple(np.flatnonzero(number == group).tolist()) for group in largest)
    count = int(np.count_nonzero(sizes))
    return Groups(count, int(sizes.sum()) - count, first)


# ------------------------------------------------------------------------------------------------ near


class Sketches:
    """The sketches of the first `most` different texts, 480 bytes each."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.rows: list[int] = []
        self._seen: set[int] = set()
        self._sketches: list[Numbers] = []

    def add(self, row: int, key: int, text: str) -> None:
        """Take in a text, unless one that is equal (by its key) is there, or enough are."""
        if len(self.rows) < self.most and key not in self._seen:
            self._seen.add(key)
            self.rows.append(row)
            self._sketches.append(sketch(text))

    def groups(self, *, shown: int = 5) -> Groups:
        """Groups of rows whose texts are nearly the same."""
        if len(self.rows) < 2:
            return Groups(0, 0, ())
        root, left_out = _clusters(np.stack(self._sketches))
        _, number, counts = np.unique(root, return_inverse=True, return_counts=True)
        found = _groups(number, counts > 1, shown)
        first = tuple(tuple(self.rows[one] for one in group) for group in found.first)
        return Groups(found.count, found.surplus, first, left_out)


def sketch(text: str) -> Numbers:
    """The minima of the text's hashed runs of words: (BANDS * BAND,), of 32 bits."""
    words = WORD.findall(text.lower()) or [text]
    hashes = np.fromiter((crc32(word.encode("utf-8", "replace")) for word in words), np.uint64, len(words))
    width = min(WIDTH, len(words))
    runs = np.zeros(len(words) - width + 1, np.uint64)
    for place in range(width):
        runs += hashes[place : place + len(runs)] * POWERS[place]
    runs ^= runs >> np.uint64(33)
    least = np.full(len(FACTORS), 2**32 - 1, np.uint64)
    for start in range(0, len(runs), BLOCK):
        hashed = (runs[start : start + BLOCK, None] * FACTORS + OFFSETS) >> np.uint64(32)
        np.minimum(least, hashed.min(axis=0), out=least)
    return least.astype(np.uint32)


def _clusters(sketches: Numbers) -> tuple[Numbers, int]:
    """The cluster of each sketch, by the number of a member, and how many comparisons were left out."""
    parent = np.arange(len(sketches))
    left_out = 0
    for band in range(BANDS):
        part = sketches[:, band * BAND : (band + 1) * BAND].astype(np.uint64)
        for members in _runs((part * POWERS[:BAND]).sum(axis=1, dtype=np.uint64)):
            for _ in range(LEADERS):
                leader, rest = members[0], members[1:]
                like = (sketches[rest] == sketches[leader]).mean(axis=1) >= LIKE
                for one in rest[like]:
                    parent[_root(parent, one)] = _root(parent, leader)
                members = rest[~like]
                if len(members) < 2:
                    break
            left_out += len(members) * (len(members) - 1) // 2
    return np.array([_root(parent, one) for one in range(len(parent))]), left_out


def _runs(keys: Numbers) -> Iterator[Numbers]:
    """The places of equal keys, where there are two or more."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order[:1]] + np.uint64(1)))
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        if stop - start > 1:
            yield order[start:stop]


def _root(parent: Numbers, one: int) -> int:
    while parent[one] != one:
        parent[one] = parent[parent[one]]
        one = parent[one]
    return int(one)
