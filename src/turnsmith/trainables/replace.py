"""Layers of a model that other modules take the place of."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from turnsmith.errors import ModelError

Kind = TypeVar("Kind", bound=nn.Module)


def refuse_adapter(model: nn.Module, does: str) -> None:
    """Raise ModelError where the model carries an adapter. does: who works on what of a full model."""
    if hasattr(model, "peft_config"):
        raise ModelError(
            f"{does} a full model, and this one carries an adapter: merge it first "
            "(turnsmith export --to safetensors)"
        )


def linear(model: nn.Module, name: str, who: str) -> nn.Linear:
    """The layer of this name. Raises ModelError where it is not a linear one."""
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        raise ModelError(f"{who}: {name} is a {type(layer).__name__}, no linear layer")
    return layer


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """The module in the place of the one of this name.

    >>> whole = nn.Sequential(nn.Sequential(nn.Identity()))
    >>> put(whole, "0.0", nn.Flatten())
    >>> list(instances(whole, nn.Flatten))
    ['0.0']
    """
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def instances(model: nn.Module, kind: type[Kind]) -> dict[str, Kind]:
    """The modules of this kind, by name, from the lowest layer up."""
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}
