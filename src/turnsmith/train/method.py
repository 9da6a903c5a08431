"""What the loop knows of a method: its objective, and the units that losses are summed and divided by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from turnsmith.models import needs
from turnsmith.models.score import Scoring
from turnsmith.models.score import scores as scores_of
from turnsmith.registry import Per, Registry, bound
from turnsmith.types import Batch, Loss, Scores, Size

Credit = Callable[[Sequence[Scores]], Sequence[Mapping[str, Tensor]]]


@dataclass(frozen=True, slots=True)
class Method:
    """An objective with its options filled in, and the traits that the loop needs.

    targets: heads that a copy follows, and how much of the way it goes after each step. values: numbers that
    it needs of each example. others: the models that some of its `needs` are against, by name; they do not
    learn. forward: the objective is given a `Run` in place of scores. credit: gives the numbers `extras` for
    each trained token of a round, from all of its scores at once. network: what it is for where it is given
    the model too. words: whether the objective asks how likely words are.
    """

    objective: Callable[..., Loss]
    per: Per
    reference: bool = False
    reads: tuple[str, ...] = ()
    linear: bool = False
    needs: tuple[str, ...] = ()
    heads: Mapping[str, Size] = field(default_factory=dict[str, "Size"])
    targets: Mapping[str, float] = field(default_factory=dict[str, float])
    values: tuple[str, ...] = ()
    others: Mapping[str, Scoring] = field(default_factory=dict[str, Scoring])
    forward: bool = False
    extras: tuple[str, ...] = ()
    credit: Credit | None = None
    network: str = ""
    words: bool = True

    def __post_init__(self) -> None:
        if self.linear and (self.needs or self.heads or self.forward or self.network):
            raise ValueError(
                "linear objectives see log-probs only: declare linear, or needs, heads, forward and network"
            )


def declared(name: str, options: Mapping[str, Any], registry: Registry) -> Method:
    """The objective of this name with its options filled in, and what its traits say."""
    traits: Mapping[str, Any] = registry.entry("objective", name).traits
    given = registry.options("objective", name, options)
    made = bound(registry.function("objective", name), given)
    reads, values, extras = (tuple(map(str, traits.get(key, ()))) for key in ("reads", "values", "extras"))
    return Method(
        made,
        cast("Per", traits["per"]),
        reference=bool(traits.get("reference")),
        reads=reads,
        linear=bool(traits.get("linear")),
        needs=needs.needs(traits, given),
        heads=needs.heads(traits, given),
        targets=needs.targets(traits, given),
        values=values,
        forward=bool(traits.get("forward")),
        extras=extras,
        credit=getattr(made, "credit", None),
        network=str(traits.get("network", "")),
        words=bool(traits.get("words", True)),
    )


def slope(method: Method, batch: Batch) -> Tensor:
    """(N,): the derivative of a linear objective's sum with respect to the log-probs, whatever they are."""
    logprobs = torch.zeros_like(batch.weights, requires_grad=True)
    found = scores_of(batch, logprobs)
    loss = (method.objective(found).values * unit_weights(method.per, found)).sum()
    return torch.autograd.grad(loss, logprobs)[0]


def units(per: Per, batch: Batch) -> float:
    """What the sum of the losses is divided by, counted from the batch."""
    if per == "token":
        return float(batch.weights.sum())
    return float(len(batch.paths) if per == "sequence" else len(batch.ids))


def unit_weights(per: Per, of: Batch | Scores) -> Tensor:
    """The weight of each unit: of the tokens their own, else 1."""
    if per == "token":
        return of.weights
    examples = len(of.ids) if isinstance(of, Batch) else of.examples
    return of.weights.new_ones(len(of.paths) if per == "sequence" else examples)
