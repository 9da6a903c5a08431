"""Splits that keep what belongs together apart: by a key of the examples, not by examples."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from turnsmith import seeds
from turnsmith.errors import DataError
from turnsmith.types import Example

if TYPE_CHECKING:
    import numpy as np

BETWEEN = "left out: belongs to more than one split"
NOWHERE = -1  # the side of an example whose values fall on different sides
FRESH = 1 << 16  # values that are held as Python objects before they are packed


def split(
    examples: Sequence[Example], shares: Mapping[str, float], *, by: str, seed: int = 0
) -> tuple[dict[str, list[Example]], int]:
    """Examples by split, and how many were left out because their keys fall into different splits.

    by: a key of meta, `id` for the examples themselves. Its values are drawn, in proportion to `shares`; an
    example with several values (e.g. the people of a chat) goes where all of them went, or nowhere.
    """
    keys = Keys(by)
    sides = deal(keys, shares, seed) if list(keys.noting(examples)) else []
    found: dict[str, list[Example]] = {name: [] for name in shares}
    for example, side in zip(examples, sides, strict=True):
        if side != NOWHERE:
            found[list(shares)[side]].append(example)
    return found, len(examples) - sum(map(len, found.values()))


class Keys:
    """What a split goes by, of examples that need not be held: some 40 bytes for each value."""

    def __init__(self, by: str) -> None:
        self.by = by
        self._fresh: list[str] = []
        self._packed: list[np.ndarray] = []
        self._starts = array("q")
        self._count = 0

    def noting(self, examples: Iterable[Example]) -> Iterator[Example]:
        """The examples, each noted as it passes."""
        for example in examples:
            self.note(values_of(example, self.by))
            yield example

    def note(self, values: Sequence[str]) -> None:
        """Take in the values of one more example."""
        self._starts.append(self._count)
        self._count += len(values)
        self._fresh += map(_ordered, values)
        if len(self._fresh) >= FRESH:
            self._pack()

    def values(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The distinct values in Python's order, which of them each noted value is, and the place of each
        example's first."""
        import numpy as np

        self._pack()
        distinct, which = np.unique(np.concatenate(self._packed), return_inverse=True)
        return distinct, which, np.frombuffer(self._starts, np.int64)

    def _pack(self) -> None:
        import numpy as np

        self._packed.append(np.array(self._fresh, np.dtypes.StringDType()))
        self._fresh = []


def deal(keys: Keys, shares: Mapping[str, float], seed: int) -> np.ndarray:
    """For each noted example the number of its split, or NOWHERE.

    Raises DataError where a share is not above 0, or a split stays empty.
    """
    import numpy as np

    if any(share <= 0 for share in shares.values()):
        raise DataError(f"shares of a split must be above 0: {dict(shares)}")
    values, which, starts = keys.values()
    order = array("q", range(len(values)))
    seeds.stream(seed, "split", keys.by).shuffle(order)
    drawn = np.frombuffer(order, np.int64)
    side = np.full(len(values), NOWHERE, np.int8 if len(shares) < 128 else np.int32)
    whole, reached, start = sum(shares.values()), 0.0, 0
    for number, share in enumerate(shares.values()):
        reached += share
        end = round(len(values) * reached / whole)
        side[drawn[start:end]] = number
        start = end
    sides = side[which]
    least, most = np.minimum.reduceat(sides, starts), np.maximum.reduceat(sides, starts)
    found = np.where(least == most, least, NOWHERE)
    for number, name in enumerate(shares):
        if not (found == number).any():
            raise DataError(
                f"split {name!r} is empty: {len(values)} values of {keys.by!r} are too few for these shares"
            )
    return found


def values_of(example: Example, by: str) -> list[str]:
    """What a split by this key goes by. Raises DataError where the example has nothing there."""
    value = example.id if by == "id" else example.meta.get(by)
    if value is None or value == [] or value == ():
        raise DataError(f"example {example.id!r} has no {by!r} to split by; it has {', '.join(example.meta)}")
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]


def _ordered(value: str) -> str:
    """The value without NUL, at which NumPy stops comparing; the order of values stays as it is."""
    return value.replace("\x01", "\x01\x02").replace("\0", "\x01\x01")
