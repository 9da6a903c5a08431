"""Differences with intervals. Every comparison is paired: the same items, before and after.

There is one rule for every figure. What each item adds to a difference is found by leaving it out (the
jackknife; for a mean it is the item's own difference), and the interval is that of the mean of these parts:

    difference +- sqrt((c * s_items)**2 + (t * s_runs)**2)

s_items is the standard error over items. c is what a share `level` of |t*| stays below over resamples of the
items, each divided by its own standard error: the symmetric studentised bootstrap, whose coverage errs by
O(n**-2), where the percentile interval errs by O(1/n) and is too narrow (Hall 1988, J. R. Statist. Soc. B 50,
35-45). Where several runs (seeds) measured the same items, s_runs is the standard error of the runs' own
figures, t Student's quantile on R - 1 degrees of freedom, and s_items leaves out what varies from run to run,
which s_runs has already. Adding squares this way covers at least what it says however the variance is split
(Banerjee 1960, Sankhya 22, 357-358; items crossed with runs as in Owen 2007, doi:10.1214/07-AOAS122).

Where all outcomes are 0 or 1, two made-up items count in every standard error, one that improved and one that
worsened, and c is at least Student's quantile: a few pairs that happen to agree are not taken for certainty
(as in the adjusted interval of Bonett & Price 2012, doi:10.3102/1076998611411915).

Several differences that are judged together use c of the largest |t*| among them in each resample, so that
all intervals hold at once with probability `level` (max-t: Westfall & Young 1993, ch. 2; Romano & Wolf 2005,
doi:10.1198/016214504000000539), and t at Bonferroni's level. Verdicts are read off the same intervals.

Limits. Simulated coverage of 95 % lies within 2 points for 30 items and more (tests/evaluation/
test_coverage.py says of what). It is not kept by strongly skewed differences of few items (exponential, 30
items: 93 %), nor by outcomes where hardly any pair differs, nor by 3 runs that matter about as much as the
items do (both too wide: up to 100 and 98 %). With 2 runs t is 12.7 and decides
little; that is what 2 runs know. One run stands for itself alone: its interval says nothing of other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Better = Literal["lower", "higher"]
Verdict = Literal["better", "worse", "undecided"]
Figures = Sequence[float] | Sequence[Sequence[float]] | NDArray[np.float64]
Array = NDArray[np.float64]
Weighed = Callable[[Array], Array]  # (B, n), how often each item counts -> (B,), the figure; nan where none
RESAMPLES = 4000
LEAST = 8  # items; a bootstrap of fewer knows too little of the tails
KEPT = 600  # items up to which draws are kept in memory, 10 MB for each count
ROOM = 4_000_000  # numbers that a block of resamples may have


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure before and after, and the interval of their difference.

    n: items that both have. runs: how many measured them. comparisons: how many differences were judged
    together; their intervals hold at once. note: what the interval does not know, for people. Where there is
    no interval at all it is infinite.
    """

    n: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    level: float
    runs: int = 1
    comparisons: int = 1
    note: str = ""

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


@dataclass(frozen=True, slots=True)
class Figure:
    """The figure of one model over runs, with its interval."""

    n: int
    value: float
    low: float
    high: float
    level: float
    runs: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """A difference before it is judged. parts: (R, n), what each item adds to it in each run.

    made_up: parts of items that nobody measured; they count in standard errors alone. ids: of the items;
    contrasts with the same ids are resampled together.
    """

    before: float
    after: float
    parts: Array
    made_up: tuple[float, ...] = ()
    ids: tuple[str, ...] = ()


def paired(
    before: Figures,
    after: Figures,
    sizes: Figures | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Sums over sums of sizes, before and after, with the interval of their difference.

    before, after: (n,) a sum for each item (e.g. nats of a conversation), or (R, n) where R runs measured the
    same items: row r of both is the same seed. sizes: what it is divided by (e.g. tokens); 1 for each where
    absent, which gives means. With several runs the interval covers the choice of items and of seeds.
    """
    return judged([sums(before, after, sizes)], level=level, seed=seed)[0]


def over_runs(values: Figures, sizes: Figures | None = None, *, level: float = 0.95, seed: int = 0) -> Figure:
    """The figure of one model with its interval over items and, where there are several rows, over runs.

    values, sizes: (n,) or (R, n), as of `paired`.
    """
    one = sums(np.zeros_like(np.asarray(values, float)), values, sizes)
    if one.made_up:  # of one side alone, a success and a failure
        one = replace(one, made_up=(1.0, 0.0))
    found = judged([one], level=level, seed=seed)[0]
    return Figure(found.n, found.after, found.low, found.high, level, found.runs, found.note)


def sums(
    before: Figures, after: Figures, sizes: Figures | None = None, *, ids: Sequence[str] = ()
) -> Contrast:
    """The contrast of sums over sums of sizes; the arguments are those of `paired`."""
    a, b = (np.atleast_2d(np.asarray(values, float)) for values in (before, after))
    size = np.ones(a.shape) if sizes is None else np.atleast_2d(np.asarray(sizes, float))
    if not a.size or not (a.shape == b.shape == size.shape):
        raise ValueError(
            f"need as many items before as after and at least one: {a.shape}, {b.shape}, {size.shape}"
        )
    if not all(np.isfinite(values).all() for values in (a, b, size)):
        raise ValueError("some values are not finite")
    total = size.sum()
    if total <= 0:
        raise ValueError("the sizes sum to nothing")
    first, second = float(a.sum() / total), float(b.sum() / total)
    change = second - first
    runs, n = a.shape
    with np.errstate(divide="ignore", invalid="ignore"):  # an item may have all of the size: see `_silent`
        scale = runs * (n - 1) / (total - size.sum(0))
        parts = change + (b - a - change * size) * scale
    outcomes = sizes is None and all(np.isin(values, (0.0, 1.0)).all() for values in (a, b))
    return Contrast(first, second, parts, (1.0, -1.0) if outcomes else (), tuple(ids))


def reduced(
    before: Sequence[Weighed], after: Sequence[Weighed], n: int, *, ids: Sequence[str] = ()
) -> Contrast:
    """The contrast of any figure that can be had of items by how often each counts.

    before, after: one for each run; the figure is the mean over runs. Each is called n times, once without
    each item. Source: Efron & Stein 1981, doi:10.1214/aos/1176345462: the jackknife does not give too small
    a variance in expectation.
    """
    whole = np.ones((1, n))
    firsts, seconds = (np.array([one(whole)[0] for one in side]) for side in (before, after))
    less = [_without(other, n) - _without(one, n) for one, other in zip(before, after, strict=True)]
    parts = n * (seconds - firsts)[:, None] - (n - 1) * np.array(less)  # a run's mean is its own difference
    return Contrast(float(firsts.mean()), float(seconds.mean()), parts, (), tuple(ids))


def _without(figure: Weighed, n: int) -> Array:
    """The figure without each item in turn."""
    found: list[Array] = []
    step = max(1, ROOM // n)
    for start in range(0, n, step):
        rows = np.arange(min(step, n - start))
        times = np.ones((len(rows), n))
        times[rows, start + rows] = 0
        found.append(figure(times))
    return np.concatenate(found)


def judged(contrasts: Sequence[Contrast], *, level: float = 0.95, seed: int = 0) -> list[Difference]:
    """The differences with intervals that hold all at once, by the largest |t*| of joint resamples.

    Contrasts of less than 8 items decide nothing: they are not among those that are judged together, and have
    an interval of their own. Items that only some contrasts have are resampled apart from the others, which
    can only widen the intervals (Sidak 1967).
    """
    sets: dict[tuple[str, ...] | int, int] = {}
    draws = [sets.setdefault(one.ids or at, len(sets)) for at, one in enumerate(contrasts)]
    joint = [at for at, one in enumerate(contrasts) if one.parts.shape[1] >= LEAST and not _silent(one)]
    largest = np.zeros(RESAMPLES)
    for at in joint:
        np.maximum(largest, _studentised(contrasts[at], seed, draws[at]), out=largest)
    found: list[Difference] = []
    for at, one in enumerate(contrasts):
        if at in joint:
            found.append(_difference(one, largest, level, len(joint)))
        else:
            alone = np.zeros(RESAMPLES) if _silent(one) else _studentised(one, seed, draws[at])
            found.append(_difference(one, alone, level, 1))
    return found


def _difference(one: Contrast, studentised: Array, level: float, comparisons: int) -> Difference:
    runs, n = one.parts.shape
    change = one.after - one.before
    note = _silent(one)
    reach = math.inf if note else _reach(one, studentised, level, comparisons)
    if not note and n < LEAST:
        note = f"fewer than {LEAST} items decide nothing"
    elif not note and runs == 2:
        note = "two runs hardly know how far runs differ: the interval is wide for it"
    return Difference(
        n, one.before, one.after, change, change - reach, change + reach, level, runs, comparisons, note
    )


def _silent(one: Contrast) -> str:
    """Why there is no interval; empty where there is one."""
    if one.parts.shape[1] == 1:
        return "one item has no spread: there is no interval"
    alone = np.flatnonzero(~np.isfinite(one.parts).all(0))
    if not alone.size:
        return ""
    first = int(alone[0])
    named = repr(one.ids[first]) if one.ids else f"number {first + 1}"
    return f"without item {named} there is no figure: there is no interval"


def _reach(one: Contrast, studentised: Array, level: float, comparisons: int) -> float:
    """Half the width of the interval."""
    runs, n = one.parts.shape
    each = 1 - (1 - level) / comparisons
    place = math.ceil(level * (len(studentised) - 1))
    critical = float(np.partition(studentised, place)[place])
    critical = min(critical, student(each, 1))  # a resample of equal parts would have it infinite
    if one.made_up:
        critical = max(critical, student(each, n - 1))
    parts = np.concatenate([one.parts, np.tile(one.made_up, (runs, 1))], 1)
    n = parts.shape[1]
    items = parts.mean(0).var(ddof=1) / n
    if runs == 1:
        return float(critical * items**0.5)
    means = parts.mean(1)
    rest = parts - parts.mean(0) - means[:, None] + parts.mean()
    within = (rest**2).sum() / ((runs - 1) * (n - 1)) / (runs * n)
    own = max(items - within, 0.0)  # what an item adds in every run
    return float((critical**2 * own + student(each, runs - 1) ** 2 * means.var(ddof=1) / runs) ** 0.5)


def _studentised(one: Contrast, seed: int, draws: int) -> Array:
    """|t*| of each resample of the items: how far its mean is off, over its own standard error."""
    parts = one.parts.mean(0)
    n, middle = len(parts), parts.mean()
    size = np.abs(parts - middle).max()
    if size <= 1e-12 * np.abs(parts).max():  # equal but for rounding
        return np.zeros(RESAMPLES)
    scaled = (parts - middle) / size  # exact enough in single precision
    powers = np.stack([scaled, scaled**2], 1).astype(np.float32)
    extra = (np.array(one.made_up) - middle) / size
    found: list[Array] = []
    step = RESAMPLES if n <= KEPT else max(1, ROOM // n)
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        times = _kept(n, seed, draws) if n <= KEPT else _times(n, rows, seed, draws, start)
        total, squares = (times @ powers).T.astype(float)
        every = n + len(extra)
        variance = (squares + (extra**2).sum()) / every - ((total + extra.sum()) / every) ** 2
        found.append(np.abs(total / n) / (np.maximum(variance, 1e-9) / (every - 1)) ** 0.5)
    return np.concatenate(found)


def _times(n: int, resamples: int, seed: int, draws: int, start: int) -> NDArray[np.float32]:
    """(B, n): how often each item is drawn in each resample."""
    rng = np.random.default_rng([seed, draws, start])
    drawn = rng.integers(0, n, (resamples, n)) + np.arange(resamples)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float32)


@lru_cache(maxsize=6)
def _kept(n: int, seed: int, draws: int) -> NDArray[np.float32]:
    return _times(n, RESAMPLES, seed, draws, 0)


@lru_cache(maxsize=256)
def student(level: float, freedom: int) -> float:
    """The value that |t| stays below with probability `level`, on so many degrees of freedom.

    Source: Abramowitz & Stegun 1972, 26.7.3 and 26.7.4, solved by bisection.

    >>> round(student(0.95, 1), 3), round(student(0.95, 2), 3), round(student(0.99, 30), 3)
    (12.706, 4.303, 2.75)
    """
    low, high = 0.0, math.pi / 2
    while high - low > 1e-14:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return freedom**0.5 * math.tan((low + high) / 2)


def _within(angle: float, freedom: int) -> float:
    """P(|t| < sqrt(freedom) * tan(angle))."""
    odd = freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for power in range(1 + odd, freedom, 2):
        total += term
        term *= math.cos(angle) ** 2 * power / (power + 1)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
