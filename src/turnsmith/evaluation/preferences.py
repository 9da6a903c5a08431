"""Which of several models people prefer: shares of comparisons that are won, and strengths behind them.

A comparison is one person's view of two replies to the same message: 1 where the first is preferred, 0
where the second is, 1/2 where they are equally good. Messages are what is drawn: all that several people, or
several replies, say of two models at one message is averaged first, so that a message counts once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from turnsmith.evaluation.statistics import LEAST, student

ELO = 400 / math.log(10)  # points of a factor e in the odds, on the scale of chess
MIDDLE = 1000.0  # points of an average model
MADE_UP = 0.5  # wins that each of two models has over the other beside those that were seen
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Compared:
    """One person's view of two replies to a message. first, second: what is compared, the replies themselves
    or the models that wrote them. won: of `first` over `second`: 1, 0, or 1/2."""

    message: str
    person: str
    first: str
    second: str
    won: float


@dataclass(frozen=True, slots=True)
class Share:
    """How often one model is preferred to another. comparisons: how many; wins, ties and losses are theirs.
    n: messages. value: the mean over messages, ties as halves; low and high are None of fewer than 8."""

    comparisons: int
    wins: int
    ties: int
    losses: int
    n: int
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Strength:
    """A model's place on a scale of `points`: of two models that are 400 apart the better one is preferred
    ten times as often. low and high: the ends of its interval, None of fewer than 8 messages in the group.
    n: messages at which it was compared. wins: the shares that it won, over messages and other models. group:
    models of different groups were never compared, not even by way of others, and each group has its own
    middle."""

    model: str
    points: float
    low: float | None
    high: float | None
    n: int
    wins: float
    group: int


def turned(one: Compared) -> Compared:
    """The same comparison seen from the other side."""
    return Compared(one.message, one.person, one.second, one.first, 1 - one.won)


def shares(compared: Sequence[Compared], *, level: float = 0.95) -> dict[tuple[str, str], Share]:
    """How often the first of two models is preferred to the second, for both orders of each two.

    The interval is value +- t s / sqrt(n + 2), t Student's quantile on n - 1 degrees of freedom and s the
    standard deviation over messages and two made-up ones, one won and one lost, so that a few messages that
    happen to agree are not taken for certainty (`evaluation/statistics.py`); it ends at 0 and 1.
    """
    pairs: dict[tuple[str, str], list[Compared]] = {}
    for one in (*compared, *map(turned, compared)):
        pairs.setdefault((one.first, one.second), []).append(one)
    return {pair: _share(pairs[pair], level) for pair in sorted(pairs)}


def _share(pair: Sequence[Compared], level: float) -> Share:
    by: dict[str, list[float]] = {}
    for one in pair:
        by.setdefault(one.message, []).append(one.won)
    means = [fmean(won) for won in by.values()]
    wins, losses = (sum(one.won == end for one in pair) for end in (1, 0))
    value, n = fmean(means), len(means)
    low, high = None, None
    if n >= LEAST:
        reach = student(level, n - 1) * stdev([*means, 0.0, 1.0]) / (n + 2) ** 0.5
        low, high = max(0.0, value - reach), min(1.0, value + reach)
    return Share(len(pair), wins, len(pair) - wins - losses, losses, n, value, low, high)


def strengths(compared: Sequence[Compared], *, level: float = 0.95) -> list[Strength]:
    """The model of Bradley and Terry: P(i is preferred to j) = 1 / (1 + exp(s_j - s_i)); the strongest first.

    Strengths are the most likely ones, once each of two models that were compared has half a win over the
    other beside those that were seen: who has won all would be infinitely strong. Ties are halves. Intervals
    come of the sandwich estimator with messages as units, against the mean of the group. Sources: Bradley &
    Terry 1952, doi:10.2307/2334029; Firth 1993, doi:10.1093/biomet/80.1.27 for the halves; White 1982,
    doi:10.2307/1912526, for the intervals.
    """
    groups = _groups(compared)
    found: list[Strength] = []
    for number, names in enumerate(groups):
        inside = [one for one in compared if one.first in names]
        found += _of_group(names, inside, number, level)
    return sorted(found, key=lambda one: (one.group, -one.points, one.model))


def _groups(compared: Sequence[Compared]) -> list[list[str]]:
    """Models that are connected by comparisons; the largest group first."""
    home: dict[str, set[str]] = {}
    for one in compared:
        joined = home.get(one.first, {one.first}) | home.get(one.second, {one.second})
        for name in joined:
            home[name] = joined
    distinct = {frozenset(group) for group in home.values()}
    return sorted((sorted(group) for group in distinct), key=lambda names: (-len(names), names))


def _of_group(
    names: Sequence[str], compared: Sequence[Compared], number: int, level: float
) -> list[Strength]:
    at, messages = {name: place for place, name in enumerate(names)}, sorted({c.message for c in compared})
    won = _by_message(compared, at, messages)
    total = won.sum(0)
    total += MADE_UP * ((total + total.T) > 0)
    found = _fitted(total)
    reach, points = _reaches(found, won, total, level), MIDDLE + ELO * found
    low, high = (None, None) if reach is None else (points - ELO * reach, points + ELO * reach)
    seen, wins = (won + won.transpose(0, 2, 1)).any(2).sum(0), won.sum((0, 2))

    def end(of: Array | None, place: int) -> float | None:
        return None if of is None else float(of[place])

    return [
        Strength(
            name,
            float(points[place]),
            end(low, place),
            end(high, place),
            int(seen[place]),
            float(wins[place]),
            number,
        )
        for place, name in enumerate(names)
    ]


def _by_message(compared: Sequence[Compared], at: dict[str, int], messages: Sequence[str]) -> Array:
    """(M, K, K): what each model wins over each other at each message; the two sides of a pair sum to 1."""
    rows = {message: row for row, message in enumerate(messages)}
    won, count = np.zeros((2, len(messages), len(at), len(at)))
    for one in (*compared, *map(turned, compared)):
        place = rows[one.message], at[one.first], at[one.second]
        won[place] += one.won
        count[place] += 1
    return np.divide(won, count, out=np.zeros_like(won), where=count > 0)


def _fitted(won: Array) -> Array:
    """(K,): the most likely strengths of mean 0, by Newton's method with bounded steps."""
    found = np.zeros(len(won))
    for _ in range(200):
        gradient, curvature = _slopes(found, won)
        step = np.linalg.pinv(curvature, hermitian=True) @ gradient
        largest = np.abs(step).max()
        found = found + step * min(1.0, 1.0 / max(largest, 1e-300))
        if largest < 1e-12:
            break
    return found - found.mean()


def _slopes(strength: Array, won: Array) -> tuple[Array, Array]:
    """The gradient (K,) of the log-likelihood and its negative second derivative (K, K)."""
    chance = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
    count = won + won.T
    spread = count * chance * (1 - chance)
    return (won - count * chance).sum(1), np.diag(spread.sum(1)) - spread


def _reaches(strength: Array, won: Array, total: Array, level: float) -> Array | None:
    """(K,): half the widths of the intervals; None of fewer than 8 messages."""
    n = len(won)
    if n < LEAST:
        return None
    chance = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
    scores = (won - (won + won.transpose(0, 2, 1)) * chance).sum(2)
    made_up: Array = np.where(total > 0, MADE_UP, 0.0).astype(np.float64)
    outer = scores.T @ scores + _slopes(strength, made_up)[1]
    inverse = np.linalg.pinv(_slopes(strength, total)[1], hermitian=True)
    variance = np.diag(inverse @ outer @ inverse) * n / (n - 1)
    return student(level, n - 1) * np.sqrt(np.maximum(variance, 0))
