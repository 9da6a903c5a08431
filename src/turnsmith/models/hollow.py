"""A model whose tensors have shapes, dtypes and a device, and no values: what it would hold can be counted,
in the arithmetic and the attention that it has there."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)


def hollow(model: nn.Module, device: str) -> nn.Module:
    """The model, loaded on `meta`, as one on `device`, which it takes nothing of; changes and gives `model`.

    Plain tensors are taken by its forward passes beside its own. What asks for a value raises RuntimeError.
    """
    mode, made = FakeTensorMode(allow_non_fake_inputs=True), dict[Tensor, Tensor]()

    def on_device(one: Tensor) -> Tensor:
        found: Tensor = FakeTensor(mode, one.detach().to("meta"), torch.device(device))
        if isinstance(one, nn.Parameter):
            found = nn.Parameter(found, requires_grad=one.requires_grad)
        return made.setdefault(one, found)  # tied weights are one tensor

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            tensors.update({name: on_device(one) for name, one in tensors.items() if one is not None})  # pyright: ignore[reportArgumentType, reportCallIssue]
    return model


def valueless(error: RuntimeError) -> bool:
    """Whether torch raised it because the value of a tensor that has none was asked for."""
    fake = isinstance(error, DataDependentOutputException | DynamicOutputShapeException)
    return fake or "meta" in str(error).lower()
