"""What learns: attaches a trainable to a model and freezes everything it does not select."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import nn

from turnsmith import seeds
from turnsmith.errors import ModelError


@dataclass(frozen=True, slots=True)
class Draw:
    """What a selection may depend on."""

    rng: Random
    epoch: int = 0


def install(
    model: nn.Module, component: Callable[..., Any], options: Mapping[str, Any], *, seed: int
) -> nn.Module:
    """The model with the trainable attached and `requires_grad` set on what it selects.

    component: a function `(model, draw, *, options) -> {parameter name: learns}`, or a class made with the
    options that has `select(model, draw)` and may have `attach(model) -> model`. New weights are drawn from
    `seed`. Raises ModelError where nothing would learn.
    """
    if isinstance(component, type):
        part: Any = component(**options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.number(seed, "attach"))
            model = part.attach(model) if hasattr(part, "attach") else model
        mask = part.select(model, _draw(seed, 0))
    else:
        mask = component(model, _draw(seed, 0), **options)
    _choose(model, mask)
    return model


def redrawing(
    model: nn.Module, component: Callable[..., Any], options: Mapping[str, Any], *, seed: int
) -> Callable[[int], None] | None:
    """A function that chooses anew for an epoch, where the component says `redraw`; None where it does not.

    model: as `install` gave it, with the same component, options and seed; the choice of epoch 0 is
    `install`'s.
    """
    part: Any = component(**options) if isinstance(component, type) else None
    if not getattr(part, "redraw", False):
        return None
    return lambda epoch: _choose(model, part.select(model, _draw(seed, epoch)))


def _draw(seed: int, epoch: int) -> Draw:
    return Draw(seeds.stream(seed, "select", epoch), epoch)


def _choose(model: nn.Module, mask: Mapping[str, bool]) -> None:
    """Set `requires_grad` by the mask; what learns becomes fp32."""
    parameters = dict(model.named_parameters())
    strangers = set(mask) - set(parameters)
    if strangers:
        raise ModelError(
            f"the trainable selects {sorted(strangers)[0]!r}, which is no parameter of this model"
        )
    for name, parameter in parameters.items():
        learns = bool(mask.get(name, False))
        parameter.requires_grad_(learns)
        if learns:  # an update is often smaller than what bf16 can hold
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ModelError("nothing would learn: the trainable selects no parameter of this model")


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
