"""The parameters that learn, as the optimiser holds them: whole, or only those of their elements that do."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Learning:
    """What learns in a module. elements: for parameters that learn in part, which elements do (bool).

    parameters: by name. Of one that learns in part it is a parameter of its own with its k elements, (k, 1)
    of a matrix and (k,) of a vector, so that neither weight decay, nor clipping, nor an optimiser's state
    touches any other element.
    """

    def __init__(self, module: nn.Module, elements: Mapping[str, Tensor] | None = None) -> None:
        self.parameters: dict[str, nn.Parameter] = {}
        self._parts: list[tuple[nn.Parameter, Tensor, nn.Parameter]] = []
        for name, whole in module.named_parameters():
            if not whole.requires_grad:
                continue
            self.parameters[name] = whole
            if elements and name in elements:
                at = elements[name].to(whole.device).flatten().nonzero().squeeze(1)
                some = whole.detach().flatten()[at]
                self.parameters[name] = nn.Parameter(some[:, None] if whole.ndim > 1 else some)
                self._parts.append((whole, at, self.parameters[name]))

    def gather(self) -> None:
        """Take the gradients of the elements from those of the whole parameters."""
        for whole, at, some in self._parts:
            if whole.grad is not None:
                some.grad = whole.grad.flatten()[at].view_as(some)
                whole.grad = None

    @torch.no_grad()
    def scatter(self) -> None:
        """Put the elements into their places."""
        for whole, at, some in self._parts:
            whole.view(-1).index_copy_(0, at, some.flatten())
