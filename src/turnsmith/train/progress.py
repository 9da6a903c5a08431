"""Where a run is: the steps that are done, what they took, and its best state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from turnsmith.models.score import Scoring
from turnsmith.train import checkpoint
from turnsmith.train.place import Place

SUMS = ("tokens", "supervised", "slots", "flops")


class Progress:
    """What checkpoints in `directory` hold.

    kept: the parameters, by name: all that may have learned by the end. validate: a number, lower is better;
    the best state is kept, the start included. state: the steps done, and sums of what each took.
    """

    def __init__(
        self,
        scoring: Scoring,
        kept: Mapping[str, nn.Parameter],
        directory: Path,
        place: Place,
        validate: Callable[[], float] | None,
    ) -> None:
        self.scoring, self.kept, self.directory = scoring, kept, directory
        self.place, self.validate = place, validate
        self.state: dict[str, Any] = {
            "step": 0,
            "tokens": 0,
            "supervised": 0,
            "slots": 0,
            "flops": 0.0,
            "seconds": 0.0,
            "skipped": 0,
            "refused": 0,  # of the last steps, one after another
            "best": None,
            "stale": 0,  # of the last evaluations, one after another, that were no better
        }
        self.best: dict[str, Tensor] | None = None

    @property
    def step(self) -> int:
        """How many steps are done."""
        return int(self.state["step"])

    def resume(self, optimizer: torch.optim.Optimizer) -> bool:
        """Go on from the newest whole checkpoint; whether there is one."""
        found = checkpoint.load(self.directory, self.kept, optimizer)
        if found is None:
            return False
        self.state, self.best = self.state | found[0], found[1]
        return True

    def save(self, optimizer: torch.optim.Optimizer) -> None:
        """A checkpoint; all processes call this, the main one writes."""
        writes = self.place.accelerator.is_main_process
        step = self.step
        checkpoint.save(self.directory, step, self.kept, optimizer, self.state, self.best, writes=writes)

    def done(self, values: Mapping[str, float]) -> None:
        """One step more, and what it took."""
        self.state["step"] += 1
        for name in SUMS:
            self.state[name] += values[name]

    def measure(self) -> float:
        """Validate; keep the state if it is the best so far."""
        assert self.validate is not None
        self.scoring.eval()
        value = self.validate()
        self.scoring.train()
        if math.isfinite(value) and (self.state["best"] is None or value < self.state["best"]):
            self.state["best"], self.state["best_step"], self.state["stale"] = value, self.step, 0
            self.best = {name: p.detach().clone() for name, p in self.kept.items()}
        elif self.state["best"] is not None:  # what is no number says nothing before the first that is one
            self.state["stale"] += 1
        return value

    def ended(self, total: int, patience: int) -> bool:
        """Whether all steps are done, or so many evaluations in a row were no better (0: any number)."""
        return self.step >= total or 0 < patience <= self.state["stale"]

    @torch.no_grad()
    def restore(self) -> None:
        """Leave the parameters at their best, where that is known."""
        for name, value in (self.best or {}).items():
            self.kept[name].copy_(value)

    def totals(self) -> dict[str, float]:
        """The numbers among the state."""
        return {name: value for name, value in self.state.items() if isinstance(value, int | float)}
