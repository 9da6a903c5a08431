"""A sparse difference: which single weights of a model were changed, and by how much, as one small file.

Source: arXiv:2110.07560 sec. 3 (phi, the sparse fine-tuning vector).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from turnsmith.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 1e-7  # Smaller differences count as none, as in the paper's own code.


@dataclass(frozen=True, slots=True)
class Sparse:
    """What was changed in one tensor.

    shape: of the whole tensor. indices: (K,) int64, ascending, into the tensor laid out row by row. values:
    (K,) fp32, what is added there. relative: digest of the K numbers that stood there before.
    """

    shape: tuple[int, ...]
    indices: Tensor
    values: Tensor
    relative: str


Patch = Mapping[str, Sparse]


def between(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Sparse]:
    """What has to be added to `before` to come to `after`, but for differences up to LEAST.

    Adding a value gives the weight of `after` within the rounding of that difference in fp32. Raises
    ModelError where names or shapes differ.
    """
    for here, there in ((before, after), (after, before)):
        _same(here, {name: tuple(tensor.shape) for name, tensor in there.items()}, "the other model")
    found: dict[str, Sparse] = {}
    for name, new in after.items():
        old = before[name].detach().to(new.device, torch.float32)
        change = (new.detach().float() - old).flatten()
        indices = (change.abs() > LEAST).nonzero()[:, 0]
        if len(indices):
            there = old.flatten()[indices]
            found[name] = Sparse(tuple(new.shape), indices.cpu(), change[indices].cpu(), _digest(there))
    return found


def add(weights: Mapping[str, Tensor], patch: Patch, *, factor: float = 1.0) -> None:
    """Add `factor` times the differences to the weights, in place; -1 takes them off again.

    The sum is rounded once, to the type of the weights. Raises ModelError, and changes nothing, where a
    tensor is missing or of another shape.
    """
    _same(weights, {name: part.shape for name, part in patch.items()}, "the sparse difference")
    with torch.no_grad():
        for name, part in patch.items():
            flat, indices = weights[name].data.view(-1), part.indices.to(weights[name].device)
            change = factor * part.values.to(flat.device)
            flat[indices] = (flat[indices].float() + change).to(flat.dtype)


def prove(weights: Mapping[str, Tensor], patch: Patch) -> None:
    """Raises ModelError where the weights are not those that the differences were taken from."""
    _same(weights, {name: part.shape for name, part in patch.items()}, "the sparse difference")
    for name, part in patch.items():
        there = weights[name].detach().flatten()[part.indices.to(weights[name].device)]
        if _digest(there) != part.relative:
            raise ModelError(
                f"{name} is not what it was when the sparse difference was taken from it: the base has been "
                "exchanged. Bring the old one back, or name it in turnsmith.json"
            )


def write(patch: Patch, file: Path) -> None:
    """The differences as a safetensors file: two tensors for each, and shapes and digests in its header."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for name, part in patch.items():
        tensors[f"{name}.indices"], tensors[f"{name}.values"] = part.indices, part.values
    told = {name: {"shape": part.shape, "relative": part.relative} for name, part in patch.items()}
    save_file(tensors, file, metadata={"format": "pt", "patch": json.dumps(told, sort_keys=True)})


def read(file: Path) -> dict[str, Sparse]:
    """The differences that `write` wrote. Raises ModelError if the file is broken or holds something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            told = json.loads((opened.metadata() or {})["patch"])
            found = {
                name: Sparse(
                    tuple(one["shape"]),
                    opened.get_tensor(f"{name}.indices"),
                    opened.get_tensor(f"{name}.values"),
                    one["relative"],
                )
                for name, one in told.items()
            }
    except (
        SafetensorError,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ModelError(f"{file} is no whole sparse difference: {error}") from error
    for name, part in found.items():
        _sound(name, part, file)
    return found


def _sound(name: str, part: Sparse, file: Path) -> None:
    """Raises ModelError unless there is one value for each index, and each index lies in the tensor."""
    indices, values = part.indices, part.values
    whole = indices.dtype == torch.int64 and values.dtype == torch.float32 and indices.shape == values.shape
    rising = whole and indices.ndim == 1 and bool((indices[1:] > indices[:-1]).all())
    if not rising or not len(indices) or indices[0] < 0 or indices[-1] >= prod(part.shape):
        raise ModelError(f"{file}: the indices and values of {name} do not fit a tensor of {[*part.shape]}")


def _same(weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], whose: str) -> None:
    """Raises ModelError where the weights lack one of these tensors or have it in another shape."""
    for name, shape in shapes.items():
        here = [*weights[name].shape] if name in weights else "missing"
        if here != [*shape]:
            raise ModelError(
                f"{name} is {here} in this model and {[*shape]} in {whose}: they are not of one architecture "
                "and vocabulary"
            )


def _digest(numbers: Tensor) -> str:
    return sha256(numbers.detach().float().cpu().numpy().tobytes()).hexdigest()
