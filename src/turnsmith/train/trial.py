"""A step that is tried: what it would do to the weights, which afterwards are as they were before."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

import torch

from turnsmith.models.score import Scoring
from turnsmith.train.optim import carried
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.trainables.install import Learner, Moved, learning
from turnsmith.types import Mask


class Trial:
    """Called with a mask, gives for each parameter that it selects how one optimiser step over the coming
    window moves it, and its gradient on the same window after that step.

    optimizer: the run's; a copy of its state is used. backward: makes the gradients of the window, under the
    same random numbers each time, and gives its counts. flops: spent so far. What learns afterwards is what
    the mask selects.
    """

    def __init__(
        self,
        scoring: Scoring,
        learner: Learner,
        optimizer: torch.optim.Optimizer,
        options: Fit,
        lr: float,
        backward: Callable[[], Mapping[str, float]],
        place: Place,
    ) -> None:
        self.scoring, self.learner, self.optimizer = scoring, learner, optimizer
        self.options, self.lr, self.backward, self.place = options, lr, backward, place
        self.flops = 0.0

    def __call__(self, mask: Mask) -> Mapping[str, Moved]:
        self.learner.take(mask)
        learns = learning(self.scoring)  # heads too
        before = {name: p.detach().clone() for name, p in learns.items()}
        step = carried(self.optimizer, learns, self.options)
        for p in step.state:
            step.state[p] = copy.deepcopy(step.state[p])
        for group in step.param_groups:
            group["lr"] = self.lr
        self.flops += self.backward()["flops"]
        self.place.clip(learns.values(), self.options.clip or math.inf)
        step.step()
        step.zero_grad(set_to_none=True)
        changes = {name: p.detach() - before[name] for name, p in learns.items()}
        self.flops += self.backward()["flops"]
        moved: dict[str, Moved] = {}
        with torch.no_grad():
            for name, p in learns.items():
                gradient = torch.zeros_like(p) if p.grad is None else p.grad
                moved[name.removeprefix("model.")] = Moved(changes[name], gradient)
                p.grad = None
                p.copy_(before[name])
        return {name: moved[name] for name in learning(self.learner.model)}
