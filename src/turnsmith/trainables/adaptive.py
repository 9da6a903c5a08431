"""GreenTrainer: what learns is chosen for what it gains within a budget of operations."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from turnsmith.errors import ModelError, UsageError
from turnsmith.models.backward import Costs, costs
from turnsmith.registry import trainable
from turnsmith.trainables.install import Draw, Moved

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Floats: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]
    Flags: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]

LEAST = 0.05  # the authors' share of the backward pass where the forward pass alone takes all of the budget


@trainable("green", source="arXiv:2309.13192 sec. 3; pittisl/GreenTrainer")
class Green:
    """The tensors learn that promise most for what they cost, so that a step keeps to a share of full tuning.

    share: the paper's rho, of the operations of a step in which everything learns, forward pass included.
    Where the forward pass alone takes more, the backward pass gets 5 % of what it takes in full tuning, and
    the share that comes of it is said. every: epochs after which the choice is made anew, the first time
    before the first step. buckets: how finely costs are told apart (the paper's T_q, there 1000).

    A trial step with all tensors that the budget could reach tells how each would move and what its gradient
    is then: the importance of a tensor is minus their product over the largest of them. Unlike in the
    authors' code the trial leaves the optimiser's moments as they were. The cost of a choice is what the
    chosen gradients take and the way back to the lowest of them. Where nothing that fits promises anything,
    the best single tensor is kept, and that is said.
    """

    def __init__(self, *, share: float = 0.5, every: int = 2, buckets: int = 10_000) -> None:
        if not 0 < share <= 1:
            raise UsageError(f"green: share is a share of full tuning, above 0 and at most 1, not {share:g}")
        if every < 1 or buckets < 1:
            raise UsageError(f"green: every is {every} and buckets {buckets}: both must be at least 1")
        self.share, self.redraw, self.buckets = share, every, buckets

    def select(self, model: PreTrainedModel, draw: Draw) -> dict[str, bool]:
        """Which parameters learn; before the loop runs, all."""
        if draw.trial is None or draw.work is None:
            return {name: True for name, _ in model.named_parameters()}
        found = costs(model, draw.work)
        share = backward_share(self.share, found.forward / found.total)
        if share <= 0:
            share = LEAST
            whole = (found.forward + share * found.total) / (found.forward + found.total)
            _say(f"the forward pass takes {self.share:g} of full tuning or more: a step takes {whole:.2f}")
        # In the order in which the backward pass comes to them.
        names, gradient, passing = found.names[::-1], found.gradient[::-1], found.passing[::-1]
        alone = np.cumsum(passing) + gradient  # what each takes if nothing else learns
        within = alone <= share * found.total
        if not within.any():
            raise ModelError(_too_little(found, float(alone.min())))
        moved = draw.trial({name: True for name, fits in zip(names, within, strict=True) if fits})
        gains = importance([moved.get(name) for name in names])
        chosen = best(gains, gradient, passing, share=share, buckets=self.buckets)
        if not chosen.any():
            chosen[np.where(within, gains, -np.inf).argmax()] = True
            _say(f"no tensor promises a lower loss: {names[int(chosen.argmax())]} learns alone")
        return {name: bool(learns) for name, learns in zip(names, chosen, strict=True)}


def backward_share(share: float, forward: float) -> float:
    """The share of the full backward pass that `share` of both passes leaves: 0 or less where it is none.

    forward: what the forward pass takes, over what the full backward pass takes.

    >>> backward_share(0.75, 0.5), backward_share(1.0, 0.5), backward_share(0.25, 0.5)
    (0.625, 1.0, -0.125)
    """
    return share * (1 + forward) - forward


def importance(moved: list[Moved | None]) -> Floats:
    """(N,): how much the loss falls with each tensor's step, to first order, over the largest change of all.

    None stands for a tensor that was not tried: 0, as for one that did not move.
    """
    changes = [0.0 if one is None else -float(torch.sum(one.change * one.gradient)) for one in moved]
    found = np.array(changes)
    return found / (np.abs(found).max() or 1.0)


def best(gains: Floats, gradient: Floats, passing: Floats, *, share: float, buckets: int) -> Flags:
    """(N,) the tensors whose gains sum to the most within a share of the cost of all of them.

    All in the order in which the backward pass comes to them. gradient: of each tensor's own gradient, the
    paper's t_dw; passing: of coming to it from the one before, t_dy. Costs are rounded down to `buckets` of
    their sum, so that a choice exceeds the budget by less than two buckets for each tensor.

    The paper's recurrence goes over pairs of tensors. With the lowest tensor given, the way to it is too, and
    what is left is a knapsack of the gradients above it: one table serves all of them, and gives the same
    optimum with N steps over the budget in place of N^2.
    """
    total = gradient.sum() + passing.sum()
    own, way = (np.floor(each * buckets / total).astype(np.int64) for each in (gradient, passing))
    budget = int(share * (own.sum() + way.sum()))
    value = np.zeros(budget + 1)  # the most gained so far with gradients of at most so many buckets
    taken = np.zeros((len(gains), budget + 1), np.bool_)
    most, lowest, room = 0.0, -1, 0
    for k, left in enumerate(budget - np.cumsum(way) - own):
        if left >= 0 and gains[k] + value[left] > most:
            most, lowest, room = gains[k] + value[left], k, int(left)
        with_it = value[: max(budget + 1 - own[k], 0)] + gains[k]
        taken[k, own[k] :] = with_it > value[own[k] :]
        value[own[k] :] = np.maximum(with_it, value[own[k] :])
    chosen = np.arange(len(gains)) == lowest
    for k in range(lowest - 1, -1, -1):
        if taken[k, room]:
            chosen[k], room = True, room - own[k]
    return chosen


def _too_little(found: Costs, least: float) -> str:
    needed = (found.forward + least) / (found.forward + found.total)
    enough = np.ceil(100 * needed) / 100
    return f"green: no tensor fits into the budget: give it a share of at least {enough:g}"


def _say(what: str) -> None:
    print(f"green: {what}", file=sys.stderr)
