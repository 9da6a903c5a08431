"""How numbers and ids of many rows are kept small, and drawn from."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from turnsmith import seeds

T = TypeVar("T")
FAR = 3.0  # Tukey's outer fence: so many interquartile ranges away from the quartiles
TIMES = 10  # where values hardly differ, each other one would be beyond the fences
FEW = 100  # values; among fewer, none is called far out


class Spread:
    """Numbers in the order in which they come, eight bytes each."""

    def __init__(self) -> None:
        self._values = array("q")

    def add(self, value: int) -> None:
        self._values.append(value)

    def __len__(self) -> int:
        return len(self._values)

    def summary(self) -> dict[str, int]:
        """Percentiles: the least value that at least so many in a hundred do not exceed.

        >>> spread = Spread()
        >>> for value in range(1, 201):
        ...     spread.add(value)
        >>> spread.summary()
        {'least': 1, 'median': 100, 'p90': 180, 'p99': 198, 'most': 200}
        """
        points = np.percentile(np.array(self._values), (0, 50, 90, 99, 100), method="inverted_cdf")
        return dict(zip(("least", "median", "p90", "p99", "most"), map(int, points), strict=True))

    def over(self, limits: Sequence[int]) -> dict[int, int]:
        """How many values exceed each limit."""
        values = np.array(self._values)
        return {limit: int((values > limit).sum()) for limit in limits}

    def far(self) -> tuple[list[int], list[int]]:
        """Places of values far below and far above the others.

        That is beyond Tukey's outer fences of their logs, and ten times below or above the quartile.
        """
        if len(self) < FEW:
            return [], []
        logs = np.log(np.maximum(np.array(self._values), 1))
        low, high = np.percentile(logs, (25, 75))
        fence = max(FAR * (high - low), np.log(TIMES))
        below, above = logs < low - fence, logs > high + fence
        return np.flatnonzero(below).tolist(), np.flatnonzero(above).tolist()


class Names:
    """Texts in the order in which they come, packed: a million ids in some 20 MB."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q")

    def add(self, name: str) -> None:
        self._bytes += name.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place: int) -> str:
        start = self._ends[place - 1] if place else 0
        return self._bytes[start : self._ends[place]].decode("utf-8", "surrogatepass")


class Sample(Generic[T]):
    """A fair draw of `most` from what comes, however much it is, in the order in which it came."""

    def __init__(self, most: int, *, seed: int = 0) -> None:
        self.most, self.seen = most, 0
        self._kept: list[tuple[int, T]] = []
        self._random = seeds.stream(seed, "sample")

    def add(self, one: T) -> None:
        """Algorithm R of Vitter 1985: the n-th is kept with probability most / n."""
        self.seen += 1
        if len(self._kept) < self.most:
            self._kept.append((self.seen, one))
        elif (place := self._random.randrange(self.seen)) < self.most:
            self._kept[place] = (self.seen, one)

    def taken(self) -> list[T]:
        return [one for _, one in sorted(self._kept, key=lambda pair: pair[0])]
