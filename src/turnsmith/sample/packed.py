"""Weights of linear layers laid out for products with few rows, which is what decoding does on a CPU.

Measured on an AMD EPYC with AVX2, two cores, fp32, a weight of 3072 by 576: 1.6 times as fast as the usual
product with 2 rows, 2.2 times with 8, 2.0 with 32, 1.4 with 512; with one row, and with 2,048, not faster.
Where fp16 holds the same numbers, the products of `float16.py` are faster than both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from turnsmith.sample import float16
from turnsmith.sample.float16 import Float16, Weights

ROWS = range(2, 1025)  # of a product in fp32, where packed weights are faster; in bf16 one is too
LAID_OUT = 8  # rows that the layout is made for
Forward = Callable[[Tensor], Tensor]
MOST = 4 * 2**30  # bytes of a model's weights, for a packed copy beside them


class Product:
    """The product by a weight (N, K), packed, in the weight's precision, and a bias (N,)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.dtype, self.bias = weight.dtype, bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, LAID_OUT)

    def __call__(self, states: Tensor) -> Tensor:
        made: Tensor = torch.ops.mkldnn._linear_pointwise.default(
            states.to(self.dtype), self.packed, self.bias, "none", [], ""
        )
        return made


def product(*layers: nn.Linear, dtype: torch.dtype | None, weights: Weights = "exact") -> Forward:
    """Several linear layers on the same states as one, in the way that is fastest here.

    dtype: that it is computed in, or None for the weights' own. weights: whether they may be rounded to fp16;
    where nothing is lost by it they are anyway.
    """
    weight = torch.cat([layer.weight.detach().to(dtype or layer.weight.dtype) for layer in layers])
    biases = [layer.bias.detach().to(weight.dtype) for layer in layers if layer.bias is not None]
    bias = torch.cat(biases) if biases else None
    if weight.dtype == torch.float32 and float16.here() and (weights == "float16" or float16.exact(weight)):
        return Float16(weight, bias)
    packed = Product(weight, bias)
    few = ROWS if weight.dtype == torch.float32 else range(1, ROWS.stop)

    def usual(states: Tensor) -> Tensor:
        found = [F.linear(states, layer.weight, layer.bias) for layer in layers]
        return found[0] if len(found) == 1 else torch.cat(found, -1)

    return lambda states: packed(states) if states.shape[:-1].numel() in few else usual(states)


class Packed:
    """Packed copies of the weights of `model`'s linear layers, made when they are first needed, and anew for
    those that have changed. dtype, weights: see `product`."""

    def __init__(
        self, model: nn.Module, dtype: torch.dtype | None = None, weights: Weights = "exact"
    ) -> None:
        self.layers = [module for module in model.modules() if type(module) is nn.Linear]
        self.dtype: torch.dtype | None = dtype
        self.weights: Weights = weights
        self.made: dict[nn.Linear, tuple[tuple[int, ...], Forward]] = {}  # of which weight, and its product

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within, the layers compute with their packed weights."""
        if not fits(self.layers, self.dtype):
            yield
            return
        for layer in self.layers:
            if self.made.get(layer, (None,))[0] != (now := state(layer)):
                self.made[layer] = now, product(layer, dtype=self.dtype, weights=self.weights)
        try:
            for layer, (_, forward) in self.made.items():
                layer.__dict__["forward"] = forward
            yield
        finally:
            for layer in self.made:
                layer.__dict__.pop("forward", None)


def fits(layers: Sequence[nn.Linear], dtype: torch.dtype | None) -> bool:
    """Whether the weights of these layers can be packed here, and there is room for it."""
    dtypes = {dtype or layer.weight.dtype for layer in layers}
    size = sum(layer.weight.numel() * (dtype or layer.weight.dtype).itemsize for layer in layers)
    return (
        bool(layers)
        and all(layer.weight.device.type == "cpu" for layer in layers)
        and torch.backends.mkldnn.is_available()
        and (dtypes == {torch.float32} or (dtypes == {torch.bfloat16} and bf16()))
        and size <= MOST
    )


def unrounded(base: nn.Module, dtype: torch.dtype | None) -> str | None:
    """Why a model's products cannot be by weights rounded to fp16, as a sentence, or None if they can."""
    layers = [module for module in base.modules() if type(module) is nn.Linear]
    others = {
        type(module).__name__
        for module in base.modules()
        if type(module) is not nn.Linear
        and not isinstance(module, nn.Embedding)  # which looks up and multiplies nothing
        and any(one.ndim > 1 for one in module.parameters(recurse=False))
    }
    way = "leave weights='float16' out."
    if others:
        return f"{type(base).__name__} has weights in {', '.join(sorted(others))}, not in nn.Linear: {way}"
    if any(layer.weight.device.type != "cpu" for layer in layers):
        return f"Weights in float16 are for CPUs, and {type(base).__name__} is not on one: {way}"
    if dtype == torch.bfloat16 or any(layer.weight.dtype != torch.float32 for layer in layers):
        return f"{type(base).__name__} is not computed in float32, so its weights are as short already: {way}"
    if not float16.here():
        return f"This machine's torch multiplies by no weights in float16 (FBGEMM on x86): {way}"
    return None if fits(layers, dtype) else f"{type(base).__name__} is too large for a second copy: {way}"


def state(layer: nn.Linear) -> tuple[int, ...]:
    """What changes when a layer's numbers do, or others take their place."""
    found = layer._parameters  # this is asked for often, and attributes of modules are slow
    return tuple(
        number for one in (found["weight"], found["bias"]) if one is not None for number in version(one)
    )


def version(one: Tensor) -> tuple[int, int]:
    """Where a tensor is, and how often it was changed in place; one that was made under inference_mode
    cannot be."""
    return one.data_ptr(), 0 if one.is_inference() else one._version


def bf16() -> bool:
    """Whether this CPU multiplies bf16 numbers by packed weights."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
