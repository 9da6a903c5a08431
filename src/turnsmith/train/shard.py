"""Parameters in shards, one on each process: FSDP2, by torch's `fully_shard`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

from turnsmith.models.lower import blocks
from turnsmith.models.score import Scoring

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def shard(scoring: Scoring) -> None:
    """Leave each process with its part of every parameter. A block is whole while it is computed, what stands
    outside of the blocks from the first pass of a step to its backward pass."""
    import torch.distributed as distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(scoring.device.type, (distributed.get_world_size(),))
    stack = blocks(scoring.base)
    for block in stack[1] if stack else ():
        fully_shard(block, mesh=mesh)
    fully_shard(scoring, mesh=mesh)


def unshard(scoring: Scoring) -> None:
    """Put the whole parameters back into the modules, on every process; no pass may follow."""
    scoring.reshard()  # pyright: ignore[reportCallIssue]
    done: dict[nn.Parameter, nn.Parameter] = {}  # a tied one stays one
    for module in scoring.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter not in done:
                done[parameter] = nn.Parameter(whole(parameter.detach()), parameter.requires_grad)
            setattr(module, name, done[parameter])


def is_part(values: Tensor) -> TypeGuard[DTensor]:
    """Whether this process holds a part of the tensor only."""
    return hasattr(values, "full_tensor")


def whole(values: Tensor) -> Tensor:
    """All of a tensor of which each process may hold a part; all of them have to ask."""
    return values.full_tensor() if is_part(values) else values


def like(values: Tensor, parameter: Tensor) -> Tensor:
    """What this process holds of the whole `values`, where it holds a part of the parameter; else all."""
    if not is_part(parameter):
        return values
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = parameter.device_mesh, parameter.placements
    return distribute_tensor(values.to(parameter.device), mesh, placements, src_data_rank=None)


def gathered(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's state with whole tensors; all processes have to ask."""
    found = optimizer.state_dict()
    own = {
        at: {name: whole(value) if isinstance(value, Tensor) else value for name, value in one.items()}
        for at, one in found["state"].items()
    }
    return {**found, "state": own}


def scattered(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The whole state with what this process holds of it."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    own = {
        at: {
            name: like(v, parameters[at]) if v.shape == parameters[at].shape else v for name, v in one.items()
        }
        for at, one in state["state"].items()
    }
    return {**state, "state": own}
