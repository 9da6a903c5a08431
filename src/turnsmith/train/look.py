"""What an objective sees before a step: gradients of its own losses, taken so that they leave no trace."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from turnsmith import seeds
from turnsmith.data.batch import Layout, deal, fill_rows, pack
from turnsmith.errors import TrainingError, UsageError
from turnsmith.models import cost
from turnsmith.models.modes import evaluating
from turnsmith.models.score import Scoring
from turnsmith.train.method import Method, unit_weights, units
from turnsmith.train.options import Fit
from turnsmith.train.passes import Passes
from turnsmith.trainables.install import Learner
from turnsmith.types import Batch, Look, Rendered, Scores


class Ahead:
    """Gives the examples of each window the values that the objective's `before_step` says of them.

    beside: further data, by the objective's names for them; which of them a step sees depends on the seed and
    the step alone. learner: the trainable, where what learns are elements of parameters. reference: gives
    reference log-probs (N,) of a batch. Raises UsageError where the objective needs one and there is none.
    """

    def __init__(
        self,
        scoring: Scoring,
        method: Method,
        options: Fit,
        beside: Mapping[str, Sequence[Rendered]],
        *,
        seed: int,
        layout: Layout = pack,
        learner: Learner | None = None,
        reference: Callable[[Batch], Tensor] | None = None,
    ) -> None:
        if method.reference and reference is None:
            raise UsageError(
                "the objective asks for log-ratios before each step, also of what is not in the data: set "
                "fit.reference to live"
            )
        self.scoring, self.method, self.options, self.layout = scoring, method, options, layout
        self.data, self.seed, self.learner, self.reference = beside, seed, learner, reference

    def valued(
        self, window: Sequence[Rendered], step: int, total: int, lr: float
    ) -> tuple[list[Rendered], float]:
        """The examples with what is said of them, and the operations that it took.

        Raises TrainingError where there are not as many numbers as examples.
        """
        objective: Any = self.method.objective
        look = _Look(self, window, step, total, lr)
        with _untouched(self.scoring):
            said: Mapping[str, Sequence[float]] = objective.before_step(look)
        for name, numbers in said.items():
            if len(numbers) != len(window):
                raise TrainingError(
                    f"step {step + 1}: the objective gives {len(numbers)} numbers as {name!r} for "
                    f"{len(window)} examples"
                )
        own = [{name: float(numbers[at]) for name, numbers in said.items()} for at in range(len(window))]
        found = [replace(one, values={**one.values, **more}) for one, more in zip(window, own, strict=True)]
        return found, look.flops


class _Look(Look):
    def __init__(self, ahead: Ahead, window: Sequence[Rendered], step: int, total: int, lr: float) -> None:
        self.ahead, self.window, self.step, self.total, self.lr = ahead, window, step, total, lr
        self.flops = 0.0

    def beside(self, name: str, count: int) -> list[Rendered]:
        data = self.ahead.data[name]
        rng = seeds.stream(self.ahead.seed, "beside", name, self.step)
        return [data[at] for at in rng.sample(range(len(data)), min(count, len(data)))]

    def gradient(self, examples: Sequence[Rendered]) -> list[Tensor]:
        scoring, method, options = self.ahead.scoring, self.ahead.method, self.ahead.options
        learns = {name: p for name, p in scoring.named_parameters() if p.requires_grad}
        runs = fill_rows(examples, options.row, layout=self.ahead.layout, per=method.per)
        batches = [self.ahead.layout(run) for run in runs]
        found = gradient(scoring, batches, method, list(learns.values()), temperature=options.temperature)
        for batch in batches:
            supervised = int((batch.weights > 0).sum())
            self.flops += cost.training_flops(scoring.model, batch.tokens, supervised)
        learner = self.ahead.learner
        elements = learner.elements if learner else {}
        return [
            slope * elements[name.removeprefix("model.")]
            if name.removeprefix("model.") in elements
            else slope
            for name, slope in zip(learns, found, strict=True)
        ]

    @torch.no_grad()
    def each(self, examples: Sequence[Rendered], read: Callable[[Scores], Tensor]) -> Tensor:
        scoring, method, options = self.ahead.scoring, self.ahead.method, self.ahead.options
        reference, layout = self.ahead.reference, self.ahead.layout
        if reference is None:
            raise ValueError("this objective needs reference log-probs: declare reference=True")
        found: dict[int, Tensor] = {}
        for run in deal(examples, options.row, layout):
            batch = layout([examples[at] for at in run])
            passes = Passes(scoring, scoring, batch, method, options.temperature, reference=reference(batch))
            found |= zip(run, read(passes(gradients=False)), strict=True)
            supervised = int((batch.weights > 0).sum())
            self.flops += 2 * cost.forward_flops(scoring.model, batch.tokens, supervised)
        return torch.stack([found[at] for at in range(len(examples))])


def gradient(
    scoring: Scoring,
    batches: Sequence[Batch],
    method: Method,
    parameters: Sequence[nn.Parameter],
    *,
    temperature: float = 1.0,
) -> list[Tensor]:
    """Of the mean of the losses over the units of all batches, for each parameter; their `grad` is left as
    it is."""
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    count = sum(units(method.per, batch) for batch in batches)
    for batch in batches:
        passes = Passes(scoring, scoring, batch, method, temperature)
        value = (passes.loss().values * unit_weights(method.per, passes.batch)).sum() / count
        found = torch.autograd.grad(value, parameters, allow_unused=True)
        sums = [total if slope is None else total + slope for total, slope in zip(sums, found, strict=True)]
    return sums


@contextmanager
def _untouched(scoring: Scoring) -> Generator[None]:
    """Dropout is off within, and random numbers go on afterwards as if nothing had been."""
    with evaluating(scoring), torch.random.fork_rng(), torch.enable_grad():
        yield
