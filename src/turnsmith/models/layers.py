"""What two models that read the same batch have in their layers, and how far that is apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from turnsmith.errors import ModelError
from turnsmith.models.needs import LAYERS
from turnsmith.types import Batch


class Layers(NamedTuple):
    """states: L + 1 of (B, T, H), the embeddings first. attention: L of (B, heads, T, T), shares that sum to
    1; empty where they were not asked for."""

    states: tuple[Tensor, ...]
    attention: tuple[Tensor, ...] = ()


def apart(mine: Layers, other: Layers, batch: Batch, kinds: Sequence[str]) -> Mapping[str, Tensor]:
    """(P,) by `states` and `attention`, those of them that are in `kinds`: the squared difference of the two
    models over a path, its mean in each layer, and the sum of these over layers.

    The mean of states is over tokens and H, that of attention over heads and pairs of tokens; padding counts
    nowhere, so that a path is worth the same in any company. The layers are compared one by one. Raises
    ModelError where the models do not have as many, or as wide ones.
    Source: James-Yip/QuantiDCE, trainer/trainer_kd_finetune.py, which counts padding too.
    """
    found: dict[str, Tensor] = {}
    for kind in (one for one in LAYERS if one in kinds):
        ones, others = getattr(mine, kind), getattr(other, kind)
        _hold_alike(kind, ones, others)
        means = _by_token if kind == "states" else _by_pair
        found[kind] = torch.stack(
            [means((a.float() - b.float()) ** 2, batch) for a, b in zip(ones, others, strict=True)]
        ).sum(0)
    return found


def _by_token(squares: Tensor, batch: Batch) -> Tensor:
    """(P,): the mean over the tokens of each path of squares (B, T, H)."""
    from turnsmith.models.score import along_paths

    flat, path = along_paths(batch)
    each = squares.mean(2).flatten()[flat]
    sums = each.new_zeros(len(batch.paths)).index_add(0, path, each)
    return sums / path.bincount(minlength=len(batch.paths))


def _by_pair(squares: Tensor, batch: Batch) -> Tensor:
    """(P,): the mean over the pairs of real tokens of each padded row of squares (B, heads, T, T)."""
    assert batch.mask is not None
    real = batch.mask.to(squares.dtype)
    sums = torch.einsum("bhqk,bq,bk->b", squares, real, real)
    return sums / (squares.shape[1] * real.sum(1) ** 2)


def _hold_alike(kind: str, ones: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    if [one.shape for one in ones] != [other.shape for other in others]:
        raise ModelError(
            f"the {kind} of two models are compared layer by layer, and they have {len(ones)} and "
            f"{len(others)} layers of other sizes: take a model of the same shape"
        )
