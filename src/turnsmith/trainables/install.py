"""What learns: attaches a trainable to a model and freezes everything it does not select."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from turnsmith import registry, seeds
from turnsmith.errors import ModelError
from turnsmith.models import own

if TYPE_CHECKING:
    from turnsmith.models.cost import Work
    from turnsmith.types import Batch, Mask


@dataclass(frozen=True, slots=True)
class Moved:
    """What a trial step does to one parameter. change: how it moves; gradient: on the same window, after."""

    change: Tensor
    gradient: Tensor


@dataclass(frozen=True, slots=True)
class Draw:
    """What a selection may depend on.

    trial: one optimiser step over the coming window with what a mask selects; everything is afterwards as it
    was before. work: what that window computes. None, both, where the selection is not made by the loop.
    """

    rng: Random
    epoch: int = 0
    trial: Callable[[Mask], Mapping[str, Moved]] | None = None
    work: Work | None = None


class Learner:
    """A trainable on a model: what learns in it, and what it adds to the loss.

    component: a function `(model, draw, *, options) -> mask`, or a class made with the options that has
    `select(model, draw)`; the registry says what else it may have. A mask says of each parameter whether it
    learns, or which of its elements do. New weights are drawn from `seed`.

    model: with the trainable attached. elements: of the parameters that learn in part, which elements do.
    every: epochs after which what learns is chosen anew; 0 is never. Raises ModelError where nothing would
    learn, or the model carries what another trainable has added.
    """

    def __init__(
        self, model: nn.Module, component: Callable[..., Any], options: Mapping[str, Any], *, seed: int
    ) -> None:
        self.seed = seed
        name = registry.name_of("trainable", component)
        own.check(model, name)
        if isinstance(component, type):
            self.part: Any = component(**options)
            self._select: Callable[[nn.Module, Draw], Mask] = self.part.select
        else:
            self.part = None
            self._select = lambda model, draw: component(model, draw, **options)
        if hasattr(self.part, "attach"):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seeds.number(seed, "attach"))
                model = own.attached(model, name, options, self.part)
        self.model = model
        self.elements: dict[str, Tensor] = {}
        self.every = int(getattr(self.part, "redraw", 0))
        self.tallies = hasattr(self.part, "tally")
        self.choose(0)
        if self.every and self.elements:
            raise ModelError("a trainable that chooses anew chooses whole parameters, not elements of them")

    def choose(
        self,
        epoch: int,
        trial: Callable[[Mask], Mapping[str, Moved]] | None = None,
        work: Work | None = None,
    ) -> None:
        """Select for an epoch; the choice of epoch 0 is made already, without a trial."""
        draw = Draw(seeds.stream(self.seed, "select", epoch), epoch, trial, work)
        self.take(self._select(self.model, draw))

    def take(self, mask: Mask) -> None:
        """Let what the mask selects learn; it becomes fp32."""
        parameters = dict(self.model.named_parameters())
        if strangers := set(mask) - set(parameters):
            name = sorted(strangers)[0]
            raise ModelError(f"the trainable selects {name!r}, which is no parameter of this model")
        self.elements = {name: which for name, which in mask.items() if isinstance(which, Tensor)}
        for name, which in self.elements.items():
            if which.dtype != torch.bool or which.shape != parameters[name].shape:
                raise ModelError(
                    f"the trainable selects elements of {name!r} by a {which.dtype} tensor of shape "
                    f"{tuple(which.shape)}, not a bool one of {tuple(parameters[name].shape)}"
                )
        for name, parameter in parameters.items():
            which = mask.get(name, False)
            learns = bool(which.any()) if isinstance(which, Tensor) else bool(which)
            parameter.requires_grad_(learns)
            if learns:  # an update is often smaller than what bf16 can hold
                parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        if not any(parameter.requires_grad for parameter in parameters.values()):
            raise ModelError("nothing would learn: the trainable selects no parameter of this model")

    def tally(self, batch: Batch) -> Tensor:
        """Sums over a micro-batch of what the last forward pass left in the trainable's modules."""
        return self.part.tally(self.model, batch)

    def penalty(self, total: Tensor | None) -> Tensor | None:
        """What is added to the loss of a step whose tallies add up to `total`; None where nothing is."""
        return self.part.penalty(self.model, total) if hasattr(self.part, "penalty") else None

    def finished(self) -> nn.Module:
        """The model as it is kept."""
        return self.part.finish(self.model) if hasattr(self.part, "finish") else self.model


def install(
    model: nn.Module, component: Callable[..., Any], options: Mapping[str, Any], *, seed: int
) -> nn.Module:
    """The model with a trainable attached and `requires_grad` set on what it selects; see `Learner`."""
    return Learner(model, component, options, seed=seed).model


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
