"""What a trainable adds to the loss of a step, the same however its window is cut and dealt out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from turnsmith.errors import TrainingError
from turnsmith.train.place import Place
from turnsmith.trainables.install import Learner
from turnsmith.types import Batch


class Penalty:
    """The penalty of one window: a function of the weights, and of tallies that add up over micro-batches.

    Where several micro-batches have tallies, a first pass without gradients gives their sum, and with it the
    slope of the penalty; then each micro-batch hands back the gradient of slope times its own tally, which
    together is the gradient of the penalty. first: that pass over a micro-batch, under the same random
    numbers as the one that follows; passes: how often it is made. value: of the penalty, once the last share
    was asked for; None where there is no penalty.
    """

    def __init__(
        self,
        learner: Learner | None,
        batches: Sequence[Batch],
        place: Place,
        first: Callable[[Batch], object],
    ) -> None:
        self.learner, self.passes = learner, 0
        self.value: float | None = None
        self._slope: Tensor | None = None
        if learner is None or not learner.tallies or (len(batches) == 1 and place.alone):
            return
        self.passes = 1
        with torch.no_grad(), torch.random.fork_rng():
            found: list[Tensor] = []
            for batch, factor, _ in place.mine(batches):
                first(batch)
                found.append(learner.tally(batch) * float(factor > 0))
            total = place.summed(torch.stack(found).sum(0))
        total.requires_grad_()
        with torch.enable_grad():
            penalty = learner.penalty(total)
        if penalty is None:
            raise TrainingError("a trainable with `tally` needs `penalty` as well")
        (self._slope,) = torch.autograd.grad(penalty, total)
        self.value = float(penalty.detach())

    def share(self, batch: Batch, factor: float, last: bool) -> Tensor | float:
        """What the backward pass of a micro-batch takes beside its loss; factor and last as of
        `Place.mine`."""
        if self.learner is None:
            return 0.0
        if self._slope is not None:
            return (self._slope * self.learner.tally(batch)).sum() * factor
        if not self.learner.tallies and not last:  # of the weights alone: once for each process
            return 0.0
        found = self.learner.penalty(self.learner.tally(batch) if self.learner.tallies else None)
        if found is None:
            return 0.0
        self.value = float(found.detach())
        return found
