"""Trainables that choose among the parameters that a model has."""

from __future__ import annotations

from torch import nn

from turnsmith.errors import ModelError
from turnsmith.models.lower import blocks
from turnsmith.registry import trainable
from turnsmith.trainables.install import Draw


@trainable("full")
def full(model: nn.Module, draw: Draw) -> dict[str, bool]:
    """Every parameter learns."""
    return {name: True for name, _ in model.named_parameters()}


@trainable("biases", source="arXiv:2106.10199 sec. 3")
def biases(model: nn.Module, draw: Draw) -> dict[str, bool]:
    """Bias terms only (BitFit). Many recent models have none: that is an error."""
    found = {name: True for name, _ in model.named_parameters() if name.endswith("bias")}
    if not found:
        raise ModelError("this model has no bias terms: choose another trainable, e.g. lora or layers")
    return found


@trainable("named")
def named(model: nn.Module, draw: Draw, *, modules: tuple[str, ...]) -> dict[str, bool]:
    """The parameters of the modules with these names learn, wherever they are in the model.

    modules: names as in the model, e.g. `encoder` or `self_attn.q_proj`. Raises ModelError where one has no
    parameter.
    """
    found: dict[str, bool] = {}
    for module in modules:
        own = [name for name, _ in model.named_parameters() if f".{module}." in f".{name}."]
        if not own:
            raise ModelError(f"named: this model has no parameter of a module {module!r}")
        found |= dict.fromkeys(own, True)
    return found


@trainable("layers")
def layers(model: nn.Module, draw: Draw, *, last: int = 4) -> dict[str, bool]:
    """The last `last` blocks learn."""
    found = blocks(model)
    if found is None:
        raise ModelError("this model has no stack of blocks to choose from")
    path, stack = found
    if not 0 < last <= len(stack):
        raise ModelError(f"layers: last={last}, but the model has {len(stack)} blocks")
    chosen = tuple(f"{path}.{index}." for index in range(len(stack) - last, len(stack)))
    return {name: True for name, _ in model.named_parameters() if name.startswith(chosen)}
