"""Steps within a budget: what each costs is taken off, and training gets as many steps as the rest buys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from turnsmith.recipes.budget import Budget, Rate, Spent, of_data, of_training, rate
from turnsmith.recipes.forecast import counted
from turnsmith.recipes.steps import Steps

FEW = 4  # examples of a stage that is tried before it is known how many can be paid
TRIAL = 4  # optimiser steps that show what training costs


class Purse:
    """The steps of one method under one seed, within a budget. rates: what training costs, by the number of
    the training step, as far as it is known: then all seeds of a method take as many steps.

    What is read and split for all methods, and what is measured, is not paid.
    """

    def __init__(self, go: Steps, budget: Budget, rates: Sequence[Rate] = ()) -> None:
        self.go, self.budget = go, budget
        self.rates = list(rates)
        self.trained = 0
        self.spent = Spent()
        self.sampling = Spent()

    @property
    def left(self) -> float:
        return self.budget.amount - self.spent.of(self.budget.unit)

    def data(self, name: str, **keys: Any) -> Mapping[str, Any]:
        """A `data` step, paid."""
        made = self.go.data(name, **keys)
        cost = of_data(made)
        self.sampling += cost
        self.spent += cost
        return made

    def sampled(self, name: str, *, share: float, stages: Sequence[Any], by: Any, **keys: Any) -> None:
        """A `data` step whose last stage, `by`, has a model write: on as many examples as `share` of the
        budget pays for, judged by a few, which are paid as well."""
        tried = self.data(f"{name}-tried", stages=[*stages, {"head": {"count": FEW}}, by], **keys)
        each = of_data(tried).of(self.budget.unit) / max(1, tried["examples"])
        count = max(FEW, int(share * self.budget.amount / each)) if each else FEW
        buy = self.data if count > FEW else self.go.data  # what was tried is there, and paid already
        buy(name, stages=[*stages, {"head": {"count": count}}, by], **keys)

    def train(self, name: str, *, share: float, **keys: Any) -> Mapping[str, Any]:
        """A `train` step of as many optimiser steps as `share` of what is left pays for; one at least."""
        fit = dict(keys.pop("fit"))
        if self.trained == len(self.rates):
            tried = self.go.trial(name, **keys, fit={**fit, "steps": TRIAL})
            self.rates.append(rate(tried, self.budget.unit))
        sizes, times = counted(self.go.planned(name, **keys, fit={**fit, "steps": 1}), self.go.runner)
        steps = self.rates[self.trained].steps(max(0.0, share * self.left), sizes, times)
        self.trained += 1
        made = self.go.train(name, **keys, fit={**fit, "steps": steps})
        self.spent += of_training(made)
        return made

    def merge(self, name: str, **keys: Any) -> Mapping[str, Any]:
        """A `merge` step; its seconds are paid."""
        made = self.go.merge(name, **keys)
        self.spent += Spent(seconds=float(made["seconds"]))
        return made

    def size(self, name: str) -> int:
        """How many examples the data of a name have."""
        return len(self.go.examples(name))
