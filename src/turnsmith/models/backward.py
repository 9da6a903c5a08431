"""What the gradient of each parameter costs, and what it costs to come to it: the backward pass as a
chain."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from turnsmith.errors import ModelError
from turnsmith.models.cost import Work, width
from turnsmith.models.head import weight_of
from turnsmith.models.modes import evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Floats: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]

PROBE = 8  # tokens of the forward pass that shows the order


@dataclass(frozen=True, slots=True)
class Costs:
    """Operations for each of N parameters, in the order in which they are used in the forward pass.

    gradient: (N,), of its own gradient. passing: (N,), of bringing the gradient to where the parameter is
    used, from where the one behind it is. forward: of the forward pass.
    """

    names: tuple[str, ...]
    gradient: Floats
    passing: Floats
    forward: float

    @property
    def total(self) -> float:
        """Of the backward pass where every parameter learns."""
        return float(self.gradient.sum() + self.passing.sum())

    def backward(self, learning: Collection[str]) -> float:
        """Of the backward pass where these learn: their gradients, and the way to the first of them."""
        mask = np.array([name in learning for name in self.names])
        return float(self.gradient[mask].sum() + self.passing[np.maximum.accumulate(mask)].sum())


@dataclass(frozen=True, slots=True, eq=False)
class _Use:
    """A module with parameters of its own. read: what it was given; out: how many numbers it gives for a
    token."""

    name: str
    module: nn.Module
    read: object
    out: int

    @property
    def weight(self) -> Tensor:
        return next(self.module.parameters(recurse=False))

    def product(self, tokens: int) -> float:
        """Of the output, of the gradient of the input, and of that of the weight, each."""
        if isinstance(self.module, nn.Embedding):
            return 0.0
        return 2.0 * tokens * (self.weight.numel() if self.weight.ndim > 1 else self.out)

    def gradient(self, parameter: Tensor, tokens: int) -> float:
        """Of a parameter: a product, or a sum over the tokens of a bias and of an embedding."""
        summed = parameter is not self.weight or isinstance(self.module, nn.Embedding)
        return float(tokens * self.out) if summed else self.product(tokens)


def costs(model: PreTrainedModel, work: Work) -> Costs:
    """What a step with this work takes for each parameter of the model.

    Operations as `training_flops` counts them: two for each weight and token, for its output, for the
    gradient of its input and for its own; the head at supervised tokens only, four for each pair in attention
    forward and eight backward, for each number of the queries. A scale is one weight for each number that it
    multiplies; a bias or an embedding is summed up. What reads the same tensor (queries, keys and values, or
    gate and up) lies side by side, and everything else in one chain. A tied embedding learns at both of its
    places and is listed at the first.
    Source: arXiv:2309.13192 sec. 3.1, but that a tensor's own input needs no gradient for that tensor's sake.
    Raises ModelError for parameters whose cost cannot be known so, as those of experts.
    """
    uses, head = _uses(model), model.get_output_embeddings()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ends, pairs = _attentions(model, uses), 4.0 * work.attended * width(model)
    gradient: dict[str, float] = {}
    own: dict[int, list[str]] = {}  # of each stage: what reads the same tensor
    through: dict[int, float] = {}  # bringing the gradient from behind a stage to before it
    for use in uses:
        stage, tokens = id(use.read), work.supervised if use.module is head else work.tokens
        first = own.setdefault(stage, [])
        for parameter in use.module.parameters(recurse=False):
            name = names[id(parameter)]
            if name not in gradient:
                first.append(name)
            gradient[name] = gradient.get(name, 0.0) + use.gradient(parameter, tokens)
        attention = 2 * pairs / len(ends) if use.name in ends else 0.0
        through[stage] = through.get(stage, 0.0) + use.product(tokens) + attention
    passing = _passing(own, through)
    order = tuple(name for first in own.values() for name in first)
    itself, way = (np.array([of[name] for name in order]) for of in (gradient, passing))
    return Costs(order, itself, way, sum(through.values()) - (pairs if ends else 0.0))


def _passing(own: dict[int, list[str]], through: Mapping[int, float]) -> dict[str, float]:
    """The way to each parameter: through all stages since the last one that has parameters of its own."""
    passing, waiting = {name: 0.0 for names in own.values() for name in names}, 0.0
    for stage, names in reversed(own.items()):
        if names:
            passing[names[-1]], waiting = waiting, 0.0
        waiting += through[stage]
    return passing


def _attentions(model: PreTrainedModel, uses: list[_Use]) -> set[str]:
    """The last module of each attention layer that is used: the pairs lie before it."""
    layers = [f"{name}." for name, module in model.named_modules() if hasattr(module, "is_causal")]
    inside = {layer: [use.name for use in uses if use.name.startswith(layer)] for layer in layers}
    return {names[-1] for names in inside.values() if names}


def _uses(model: PreTrainedModel) -> list[_Use]:
    """The modules in the order in which they are used, the head last; a forward pass of a few tokens shows
    it."""
    owners = {n: m for n, m in model.named_modules() if next(m.parameters(recurse=False), None) is not None}
    head, found = model.get_output_embeddings(), list[_Use]()

    def noting(name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: Any, options: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found.append(_Use(name, module, (*inputs, *options.values())[0], output.numel() // PROBE))

        return note

    hooks = [m.register_forward_hook(noting(n), with_kwargs=True) for n, m in owners.items() if m is not head]
    try:
        with torch.no_grad(), evaluating(model):
            ids = torch.zeros(1, PROBE, dtype=torch.long, device=model.device)
            getattr(model, model.base_model_prefix)(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    for name, module in owners.items():
        times = sum(use.module is module for use in found) + (module is head)
        if times != 1 or any(p.ndim > 2 for p in module.parameters(recurse=False)):
            raise ModelError(
                f"what the gradients of {name} cost is not known: it is used {times} times for a token, or "
                "holds several experts. Choose a trainable that does not weigh costs, e.g. half or layers"
            )
    return [*found, *(_Use(name, m, m, len(weight_of(m))) for name, m in owners.items() if m is head)]
