"""Differences with intervals. Every comparison is paired: the same items, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Better = Literal["lower", "higher"]
Verdict = Literal["better", "worse", "undecided"]
Figures = Sequence[float] | Sequence[Sequence[float]]
RESAMPLES = 4000
LEAST = 8  # items; a bootstrap of fewer knows too little of the tails


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure before and after, and the interval of their difference. n: items that both have."""

    n: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    level: float

    def verdict(self, better: Better) -> Verdict:
        """`better` or `worse` only where the whole interval lies on one side of 0.

        Always `undecided` below 8 items: the interval of so few is too narrow.
        """
        if self.n < LEAST:
            return "undecided"
        down, up = self.high < 0, self.low > 0
        if not (down or up):
            return "undecided"
        return "better" if down == (better == "lower") else "worse"


def paired(
    before: Figures,
    after: Figures,
    sizes: Figures | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Sums over sums of sizes, before and after, with a paired bootstrap interval of the difference.

    before, after: (n,) a sum for each item (e.g. nats of a conversation), or (R, n) where R runs measured the
    same items. sizes: what it is divided by (e.g. tokens); 1 for each where absent, which gives means. Items
    are resampled, both sides together, and runs too, so that the interval covers the choice of both;
    percentile interval. Source: Efron & Tibshirani 1993, ch. 8 and 13; for items crossed with runs, Owen
    2007, doi:10.1214/07-AOAS122.
    """
    a, b = (np.atleast_2d(np.asarray(values, float)) for values in (before, after))
    size = np.ones(a.shape) if sizes is None else np.atleast_2d(np.asarray(sizes, float))
    if not a.size or not (a.shape == b.shape == size.shape):
        raise ValueError(
            f"need as many items before as after and at least one: {a.shape}, {b.shape}, {size.shape}"
        )
    if not all(np.isfinite(values).all() for values in (a, b, size)):
        raise ValueError("some values are not finite")
    if size.sum() <= 0:
        raise ValueError("the sizes sum to nothing")
    first, second = float(a.sum() / size.sum()), float(b.sum() / size.sum())
    rng = np.random.default_rng(seed)
    runs, n = a.shape
    draws = rng.integers(0, n, (RESAMPLES, n))
    times = rng.multinomial(runs, [1 / runs] * runs, RESAMPLES)  # how often each run is drawn
    total = np.take_along_axis(times @ size, draws, 1).sum(1)
    change = np.take_along_axis(times @ (b - a), draws, 1).sum(1)[total > 0] / total[total > 0]
    low, high = (float(q) for q in np.quantile(change, [(1 - level) / 2, (1 + level) / 2]))
    return Difference(n, first, second, second - first, low, high, level)
