"""How far people agree who judge the same things."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

Level = Literal["nominal", "interval"]
APART: Mapping[Level, Callable[[float, float], float]] = {
    "nominal": lambda one, other: float(one != other),
    "interval": lambda one, other: (one - other) ** 2,
}


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far people agree. alpha: Krippendorff's; 1 where all agree, 0 where they do as by chance; None
    where nothing was judged twice or all judgements are alike, which leaves no chance to compare with. equal:
    the share of pairs of judgements of one thing that are the same. units: things that two or more people
    have judged; people: who did; judgements: how many there are of these."""

    alpha: float | None
    equal: float | None
    units: int
    people: int
    judgements: int


def agreement(judged: Sequence[tuple[str, str, float]], *, level: Level) -> Agreement:
    """The agreement of (unit, person, value). level: `nominal`, where values are names and equal or not, or
    `interval`, where the square of their difference counts.

    alpha = 1 - D_o / D_e: the mean distance of two judgements of one unit, each unit with m judgements
    weighing m, over the mean distance of any two judgements. Units that one person alone has judged are left
    out. Source: Krippendorff 2019, Content Analysis, 4th ed., ch. 12.

    >>> agreement([("a", "x", 1), ("a", "y", 1), ("b", "x", 0), ("b", "y", 0)], level="nominal").alpha
    1.0
    """
    by: dict[str, dict[str, float]] = {}
    for unit, person, value in judged:
        by.setdefault(unit, {})[person] = value
    units = [list(values.values()) for values in by.values() if len(values) > 1]
    people = {person for values in by.values() if len(values) > 1 for person in values}
    every = [value for values in units for value in values]
    if not units:
        return Agreement(None, None, 0, 0, 0)
    pairs = [pair for values in units for pair in combinations(values, 2)]
    equal = sum(one == other for one, other in pairs) / len(pairs)
    return Agreement(_alpha(units, every, APART[level]), equal, len(units), len(people), len(every))


def _alpha(
    units: Sequence[Sequence[float]], every: Sequence[float], apart: Callable[[float, float], float]
) -> float | None:
    n = len(every)
    observed = sum(2 * _sum(values, apart) / (len(values) - 1) for values in units) / n
    counts = {value: every.count(value) for value in set(every)}
    expected = sum(
        2 * counts[one] * counts[other] * apart(one, other) for one, other in combinations(sorted(counts), 2)
    )
    return 1 - observed * n * (n - 1) / expected if expected else None


def _sum(values: Sequence[float], apart: Callable[[float, float], float]) -> float:
    return sum(apart(one, other) for one, other in combinations(values, 2))
