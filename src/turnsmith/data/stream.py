"""The order in which examples are seen. It depends on the seed and the step alone, so a step is a
position."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from turnsmith import seeds
from turnsmith.types import Rendered

Order = Literal["shuffled", "given"]


class Places:
    """Windows of places 0 to `count` - 1 over endless epochs, each shuffled anew by `seed`.

    A window may reach over the end of an epoch; no place is left out or met twice within one.
    """

    def __init__(self, count: int, *, batch: int, order: Order, seed: int) -> None:
        self.count, self.batch, self.seed = count, batch, seed
        self.order: Order = order
        self._epochs: dict[int, array[int]] = {}

    def window(self, number: int) -> list[int]:
        """The places of window `number`, counted from 0."""
        first = number * self.batch
        return [self._epoch(at // self.count)[at % self.count] for at in range(first, first + self.batch)]

    def times(self, windows: int) -> np.ndarray:
        """How often each place is met in the first `windows` windows."""
        epochs, rest = divmod(windows * self.batch, self.count)
        found = np.full(self.count, epochs)
        found[self._epoch(epochs)[:rest]] += 1
        return found

    def _epoch(self, epoch: int) -> array[int]:
        if epoch not in self._epochs:
            places = array("q", range(self.count))  # 8 bytes for each
            if self.order == "shuffled":
                seeds.stream(self.seed, "order", epoch).shuffle(places)
            self._epochs = {e: kept for e, kept in self._epochs.items() if e >= epoch - 1} | {epoch: places}
        return self._epochs[epoch]


class Stream:
    """Windows (the examples of one optimiser step) over endless epochs, each shuffled anew.

    A window may reach over the end of an epoch; no example is left out or seen twice within one. view: what
    the model sees of an example, given the step and the example's place in the window.
    """

    def __init__(
        self,
        examples: Sequence[Rendered],
        *,
        batch: int,
        order: Order,
        seed: int,
        view: Callable[[Rendered, int, int], Rendered] | None = None,
    ) -> None:
        if not examples:
            raise ValueError("no examples to stream")
        self.examples = examples
        self.batch = batch
        self.order: Order = order
        self.seed = seed
        self.view = view
        self._places = Places(len(examples), batch=batch, order=order, seed=seed)

    def window(self, step: int) -> list[Rendered]:
        """The examples of step `step`, counted from 0."""
        found = [self.examples[index] for index in self.indices(step)]
        if self.view is None:
            return found
        return [self.view(example, step, place) for place, example in enumerate(found)]

    def epoch(self, step: int) -> int:
        """The epoch that step `step` begins in."""
        return step * self.batch // len(self.examples)

    def indices(self, step: int) -> list[int]:
        """Their indices in the data."""
        return self._places.window(step)

    def times(self, steps: int) -> np.ndarray:
        """How often each example is seen in the first `steps` steps."""
        return self._places.times(steps)
