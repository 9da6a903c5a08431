"""Whether what people ask has drifted: the divergence of words, held against what chance gives."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnsmith.data.duplicates import WORD
from turnsmith.evaluation.statistics import LEAST

DEALT = 999  # random deals of the prompts
MOST = 2000  # prompts of each side that are dealt
WORDS = 1000  # the most frequent words; all others count as one


@dataclass(frozen=True, slots=True)
class Drift:
    """How far what people ask is from what they asked before.

    divergence: Jensen-Shannon's, in bits, 0 to 1, between the words of `prompts` prompts. threshold: what
    chance alone exceeds in few cases. expected: the mean of what chance gives. words: whose shares grew most.
    """

    divergence: float
    threshold: float
    expected: float
    prompts: int
    words: tuple[str, ...]


def divergence(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Jensen-Shannon divergence in bits of distributions, along the last axis; counts are scaled.

    0 where they are alike, 1 where nothing is in both. Source: Lin 1991, doi:10.1109/18.61115, eq. 4.1.

    >>> divergence(np.array([1.0, 1.0]), np.array([1.0, 0.0])).round(4)
    np.float64(0.3113)
    """
    p, q = (counts / counts.sum(-1, keepdims=True) for counts in (one, other))
    middle = (p + q) / 2
    return (_entropy(middle) - (_entropy(p) + _entropy(q)) / 2).clip(0, 1)


def drifted(before: Sequence[str], now: Sequence[str], *, level: float = 0.99, seed: int = 0) -> Drift | None:
    """How far the words of prompts are from those of earlier ones; None of fewer than 8 prompts on a side, or
    without a word on one.

    The threshold is the `level` quantile of the divergences of DEALT random deals of the same prompts onto
    sides of the same sizes. Of more than MOST prompts on a side so many are drawn.
    """
    rng = np.random.default_rng(seed)
    sides = [_some(side, rng) for side in (before, now)]
    if min(map(len, sides)) < LEAST:
        return None
    counts, words = _counted([*sides[0], *sides[1]])
    size, total = len(sides[1]), counts.sum(0)
    last = counts[-size:].sum(0)
    if not last.sum() or not (total - last).sum():
        return None
    found = float(divergence(total - last, last))
    dealt = np.stack([counts[rng.permutation(len(counts))[:size]].sum(0) for _ in range(DEALT)])
    able = (dealt.sum(1) > 0) & (dealt.sum(1) < total.sum())
    chance = np.sort(divergence(total - dealt[able], dealt[able]))
    threshold = float(chance[min(len(chance) - 1, math.ceil(level * len(chance)) - 1)])
    growth = last / last.sum() - (total - last) / (total - last).sum()
    grown = tuple(words[at] for at in np.argsort(-growth, kind="stable")[:5] if growth[at] > 0 and words[at])
    return Drift(found, threshold, float(chance.mean()), sum(map(len, sides)), grown)


def _some(prompts: Sequence[str], rng: np.random.Generator) -> list[str]:
    if len(prompts) <= MOST:
        return list(prompts)
    return [prompts[int(at)] for at in np.sort(rng.choice(len(prompts), MOST, replace=False))]


def _counted(prompts: Sequence[str]) -> tuple[NDArray[np.float64], list[str]]:
    """How often each word is in each prompt, (n, V), and the words; the last column has all rarer ones, and
    no name."""
    said = [Counter(WORD.findall(prompt.lower())) for prompt in prompts]
    total: Counter[str] = Counter()
    for one in said:
        total.update(one)
    words = sorted(total, key=lambda word: (-total[word], word))[:WORDS]
    places = {word: at for at, word in enumerate(words)}
    counts = np.zeros((len(prompts), len(words) + 1))
    for row, one in enumerate(said):
        for word, count in one.items():
            counts[row, places.get(word, len(words))] += count
    return counts, [*words, ""]


def _entropy(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """In bits, along the last axis."""
    safe = np.where(shares > 0, shares, 1.0)
    return -(shares * np.log2(safe)).sum(-1)
