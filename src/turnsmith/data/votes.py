"""One order out of several rankings: Tideman's ranked pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

from turnsmith.errors import DataError

Pair = tuple[str, str]  # the one that is preferred, and the other


@dataclass(frozen=True, slots=True)
class Ranked:
    """An order, the best first, and what it rests on.

    margins: of each two, both ways round, how many rankings have the first above the second less how many
    have it below. locked: the pairs that the order was made of, in the order in which they were taken.
    """

    order: tuple[str, ...]
    margins: Mapping[Pair, int]
    locked: tuple[Pair, ...]


def ranked_pairs(rankings: Sequence[Sequence[str | Sequence[str]]]) -> Ranked:
    """The order that the most rankings agree with, pair by pair, the clearest majorities first.

    A ranking goes from best to worst. A place of it is a name, or several that tie; names that it does not
    have are compared with nothing by it. Majorities are taken by margin, the largest first, and each is kept
    unless those before it say the opposite. Of equal margins, that of the lower name comes first, then that
    over the lower name; two of equal standing, of margin 0, are taken in the order of their names. So the
    order is full and depends neither on that of the rankings nor on chance.

    Raises DataError where a ranking has a name twice. n names take n**3 steps at most.
    Source: Tideman 1987, Independence of clones as a criterion for voting rules, doi:10.1007/BF00433944.

    >>> ranked_pairs([["a", "b", "c"], ["b", "c", "a"], ["a", ("b", "c")]]).order
    ('a', 'b', 'c')
    """
    wins: Counter[Pair] = Counter()
    names: set[str] = set()
    for number, ranking in enumerate(rankings):
        places = _places(ranking, number)
        names.update(places)
        for one, other in combinations(places, 2):
            if places[one] != places[other]:
                wins[(one, other) if places[one] < places[other] else (other, one)] += 1
    both = list(permutations(sorted(names), 2))
    margins = {(one, other): wins[one, other] - wins[other, one] for one, other in both}
    below: dict[str, set[str]] = {name: set() for name in names}
    locked: list[Pair] = []
    for better, worse in sorted(
        (pair for pair in both if margins[pair] >= 0), key=lambda p: (-margins[p], p)
    ):
        if better in below[worse]:
            continue
        locked.append((better, worse))
        under = {worse, *below[worse]}
        for name in names:
            if name == better or better in below[name]:
                below[name] |= under
    return Ranked(tuple(sorted(names, key=lambda name: -len(below[name]))), margins, tuple(locked))


def _places(ranking: Sequence[str | Sequence[str]], number: int) -> dict[str, int]:
    """The place of each name, from 0."""
    found: dict[str, int] = {}
    for place, group in enumerate(ranking):
        for name in (group,) if isinstance(group, str) else group:
            if name in found:
                raise DataError(f"ranking {number} has {name!r} twice")
            found[name] = place
    return found
