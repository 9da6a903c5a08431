"""Merges that calculate with what tunings changed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from turnsmith.errors import UsageError
from turnsmith.registry import merge

if TYPE_CHECKING:
    from torch import Tensor


@merge("add", source="arXiv:2110.07560 sec. 3.2")
def add(name: str, base: Tensor, tensors: Sequence[Tensor], *, factors: tuple[float, ...] = (1.0,)) -> Tensor:
    """Add what each of several tunings changed to the base: theta0 + sum_i factor_i (theta_i - theta0).

    The order of the models does not matter. factors: one for each model, or one for all. A task that was
    learnt on top of the language s is put on the language t with the model of s as base: what the merge then
    takes off and adds leaves theta0 + phi_t + phi_T. Where none of the models changed a weight it stays as it
    is, to the bit and in its type.
    """
    import torch

    if len(factors) not in (1, len(tensors)):
        raise UsageError(f"add: {len(factors)} factors for {len(tensors)} models: give one for each, or one")
    if all(torch.equal(tensor, base.to(tensor.dtype)) for tensor in tensors):
        return base
    each = factors * len(tensors) if len(factors) == 1 else factors
    wide = base.double()  # so wide that the order of the sum is not seen in fp32
    total = wide.clone()
    for factor, tensor in zip(each, tensors, strict=True):
        total += factor * (tensor.double() - wide)
    kind = functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors), base.dtype)
    return total.to(kind)
