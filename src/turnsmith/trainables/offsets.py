"""LoFiT: which attention heads a task is about, and one learnt vector for the output of each of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from turnsmith.errors import ModelError, UsageError
from turnsmith.models import own
from turnsmith.models.directory import is_own
from turnsmith.models.locate import locate
from turnsmith.models.sites import Head, outputs
from turnsmith.registry import trainable
from turnsmith.trainables.install import Draw
from turnsmith.trainables.replace import instances, linear, put, refuse_adapter

SPREAD = 1e-3  # standard deviation of what A and v start from: that of the released code


class Scaled(nn.Module):
    """W ((1 + A) z): attention's output projection, before which each number of each head is scaled.

    layer: W, which stays as it is. scales: A, (heads, size of one), fp32. At A = 0 it is W z, bit for bit.
    """

    def __init__(self, layer: nn.Linear, heads: int) -> None:
        super().__init__()
        self.layer = layer
        self.scales = _drawn_for(layer, heads)

    def forward(self, states: Tensor) -> Tensor:
        return self.layer(states * (1 + self.scales.flatten()).to(states.dtype))


class Offset(nn.Module):
    """W (z + v), as W z and a bias: attention's output projection, with a vector added to each head.

    layer: W and its bias, if it has one, which stay as they are. offsets: v, (heads, size of one), fp32; it
    is zero for heads without an offset.
    """

    def __init__(self, layer: nn.Linear, heads: int) -> None:
        super().__init__()
        self.layer = layer
        self.offsets = _drawn_for(layer, heads)
        nn.init.zeros_(self.offsets)

    def forward(self, states: Tensor) -> Tensor:
        return F.linear(states, self.layer.weight, self.bias())

    def bias(self) -> Tensor:
        """(H,), in the dtype of W: b + sum over heads of W[:, head] v. As the bias of W it gives the same
        bits as this layer."""
        weight = self.layer.weight
        with torch.autocast(weight.device.type, enabled=False):
            added = weight.to(self.offsets.dtype) @ self.offsets.flatten()
            if self.layer.bias is not None:
                added = added + self.layer.bias
            return added.to(weight.dtype)


def _drawn_for(layer: nn.Linear, heads: int) -> nn.Parameter:
    """(heads, size of one) numbers from N(0, SPREAD), where the layer is."""
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    drawn = torch.randn(heads, layer.in_features // heads) * SPREAD
    return nn.Parameter(drawn.to(layer.weight.device, dtype))


@trainable("head_scales", source="arXiv:2406.01563 sec. 3.1; fc2869/lo-fit, lofit_trainer.py")
class HeadScales:
    """Step 1 of LoFiT: what each attention head gives is scaled by 1 + A, and A learns under an L1 penalty.

    The heads whose A has become largest are those that the task is about: `lofit` takes them from the model
    that comes out, whose A is of no other use. A is drawn from N(0, 0.001), one number for each of a query
    head's, in all layers. sparsity: the paper's lambda, times the sum of |A|; it takes 5e-4 for TruthfulQA,
    1e-3 for MQuAKE, 5e-3 for CLUTRR, with learning rates of 5e-3, 5e-3 and 5e-4.
    """

    def __init__(self, *, sparsity: float = 5e-4) -> None:
        if sparsity < 0:
            raise UsageError(f"head_scales: sparsity is {sparsity}: it is 0 or more")
        self.sparsity = sparsity

    def attach(self, model: nn.Module) -> nn.Module:
        """The model with scales before its output projections, or as it is where it has them."""
        return _attached(model, Scaled, "head_scales")

    def select(self, model: nn.Module, draw: Draw) -> dict[str, bool]:
        """All A."""
        return {f"{name}.scales": True for name in instances(model, Scaled)}

    def penalty(self, model: nn.Module, total: Tensor | None) -> Tensor:
        """sparsity * sum |A|."""
        sums = [part.scales.abs().sum() for part in instances(model, Scaled).values()]
        return self.sparsity * torch.stack(sums).sum()


@trainable("lofit", models=("scales",), source="arXiv:2406.01563 sec. 3.2; fc2869/lo-fit, lofit_trainer.py")
class Lofit:
    """Step 2 of LoFiT: one offset learns for each of the few heads that a task is about, and nothing else.

    scales: a model of `head_scales`, of the same base and, unless to compare, the same task; its heads are
    ranked by the norm of their A over all layers, and that is all that is taken from it. share: of the heads,
    the paper's 32 of 1,024; heads: how many, instead. Offsets start at N(0, 0.001), and are added at all
    positions; the paper's learning rate is 1e-2.
    What is kept is the base with biases on attention's output projections, which costs nothing and which
    others load (llama and qwen3: `attention_bias` in their settings). Families whose settings cannot say so
    (mistral, qwen2) are kept as offsets beside their base.
    """

    def __init__(self, *, scales: str, share: float = 0.03125, heads: int | None = None) -> None:
        self.scales, self.count = scales, _counter("lofit", share, heads)

    def attach(self, model: nn.Module) -> nn.Module:
        """The model with offsets of zero, or as it is where it has offsets."""
        return _attached(model, Offset, "lofit")

    def select(self, model: nn.Module, draw: Draw) -> dict[str, Tensor]:
        """The offsets of the heads with the largest scales."""
        parts = instances(model, Offset)
        order = ranked(_scales(self.scales, {name: part.offsets for name, part in parts.items()}))
        return _learning(parts, order[: self.count(len(order))], draw.rng)

    def finish(self, model: nn.Module) -> nn.Module:
        """The model with its offsets in biases, changed in place, if its settings can say so."""
        return fold(model)


@trainable("head_offsets", source="arXiv:2406.01563 sec. 5.1, its random heads")
class HeadOffsets:
    """One offset learns for each of some attention heads that are drawn at random, or of all of them.

    This is what `lofit` is to be compared with: its second step without the first. share: of the heads, 1 for
    all; heads: how many, instead. Everything else is as in `lofit`.
    """

    def __init__(self, *, share: float = 0.03125, heads: int | None = None) -> None:
        self.count = _counter("head_offsets", share, heads)

    def attach(self, model: nn.Module) -> nn.Module:
        """The model with offsets of zero, or as it is where it has offsets."""
        return _attached(model, Offset, "head_offsets")

    def select(self, model: nn.Module, draw: Draw) -> dict[str, Tensor]:
        """The offsets of heads from `draw.rng`."""
        parts = instances(model, Offset)
        every = [
            Head(layer, head) for layer, one in enumerate(parts.values()) for head in range(len(one.offsets))
        ]
        return _learning(parts, draw.rng.sample(every, self.count(len(every))), draw.rng)

    def finish(self, model: nn.Module) -> nn.Module:
        """The model with its offsets in biases, changed in place, if its settings can say so."""
        return fold(model)


def ranked(scales: Sequence[Tensor]) -> list[Head]:
    """All heads, from the largest norm of A down. scales: (heads, size) of each layer.

    >>> ranked([torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 4.0]])])
    [Head(layer=1, head=0), Head(layer=0, head=0)]
    """
    norms = {
        Head(layer, head): norm
        for layer, one in enumerate(scales)
        for head, norm in enumerate(one.norm(dim=1).tolist())
    }
    return sorted(norms, key=lambda head: -norms[head])


def fold(model: nn.Module) -> nn.Module:
    """The model with each offset in its projection's bias, changed in place; as it was where its settings
    cannot say that these projections have biases."""
    parts = instances(model, Offset)
    biased = _biased(model, parts)
    if biased is None:
        return model
    for name, part in parts.items():
        layer, bias = part.layer, part.bias().detach()
        layer.bias = nn.Parameter(bias, requires_grad=False)
        put(model, name, layer)
    for name in biased:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        if layer.bias is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_features), requires_grad=False)
    if biased:
        whole: Any = model
        whole.config.attention_bias = True
    own.forget(model)
    return model


def _biased(model: nn.Module, parts: Mapping[str, Offset]) -> list[str] | None:
    """The layers that have biases where the settings say that attention has them; none where those with
    offsets have them already, None where the settings cannot say it."""
    if all(part.layer.bias is not None for part in parts.values()):
        return []
    config = copy.deepcopy(getattr(model, "config", None))
    if not hasattr(config, "attention_bias"):
        return None
    config.attention_bias = True  # pyright: ignore[reportOptionalMemberAccess]
    with torch.device("meta"):
        made: nn.Module = type(model)(config)
    biased = [name for name, layer in instances(made, nn.Linear).items() if layer.bias is not None]
    return biased if parts.keys() <= set(biased) else None


def _attached(model: nn.Module, kind: type[Scaled] | type[Offset], who: str) -> nn.Module:
    """The model with parts of this kind in place of its output projections, or as it is if it has them."""
    if instances(model, kind):
        return model
    refuse_adapter(model, f"{who} works on the heads of")
    for name, heads in outputs(model, who).items():
        put(model, name, kind(linear(model, name, who), heads))
    return model


def _counter(who: str, share: float, heads: int | None) -> Callable[[int], int]:
    """How many of so many heads get an offset."""
    if (heads is not None and heads < 1) or not 0 < share <= 1:
        raise UsageError(f"{who}: heads is {heads} and share {share}: heads >= 1 and 0 < share <= 1")

    def count(every: int) -> int:
        if heads is not None and heads > every:
            raise ModelError(f"{who}: heads is {heads}, and this model has {every} in all its layers")
        return max(1, round(share * every)) if heads is None else heads

    return count


def _scales(reference: str, offsets: Mapping[str, Tensor]) -> list[Tensor]:
    """A of each layer of a model of `head_scales`. offsets: by the names of the same layers."""
    directory = locate(reference)
    found = own.kept(directory) if is_own(directory) else {}
    scales = {name.removesuffix(".scales"): one for name, one in found.items() if name.endswith(".scales")}
    if not scales:
        raise ModelError(f"scales: {reference} has no scales: name a model that head_scales has trained")
    shapes = [{name: tuple(one.shape) for name, one in ones.items()} for ones in (scales, offsets)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"scales: {reference} has other layers or heads than the model to be tuned: train head_scales "
            "on the model that lofit starts from"
        )
    return [scales[name] for name in offsets]


def _learning(parts: Mapping[str, Offset], heads: Sequence[Head], rng: Random) -> dict[str, Tensor]:
    """The mask of these heads' offsets. Those that are zero, and so could not tell a start, are drawn."""
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    offsets = [part.offsets for part in parts.values()]
    masks = [torch.zeros_like(one, dtype=torch.bool) for one in offsets]
    for layer, head in sorted(heads):
        masks[layer][head] = True
        one = offsets[layer].data[head]
        drawn = torch.randn(one.shape, generator=generator) * SPREAD
        one.copy_(torch.where(one.any(), one, drawn.to(one)))
    return {f"{name}.offsets": mask for name, mask in zip(parts, masks, strict=True)}
