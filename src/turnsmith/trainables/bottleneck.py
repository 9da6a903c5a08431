"""LiST's adapters: a narrow detour behind the projections that end each block's two halves."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from turnsmith.errors import ModelError, UsageError
from turnsmith.models import own
from turnsmith.registry import trainable
from turnsmith.trainables.install import Draw
from turnsmith.trainables.replace import instances, linear, put, refuse_adapter

SPREAD = 0.02  # standard deviation of both matrices at the start: the paper's


class Bottleneck(nn.Module):
    """h + U f(D h), h = W x + b: a linear layer, which stays as it is, with an adapter behind it.

    down: D, (size, H). up: U, (H, size). f: the identity, or max(0, .) where `bend` is set. Both matrices are
    drawn from N(0, 0.02), so that the layer gives something else than before from the start.
    """

    def __init__(self, layer: nn.Linear, *, size: int, bend: bool) -> None:
        super().__init__()
        self.layer, self.bend = layer, bend
        self.down = nn.Linear(layer.out_features, size, bias=False)
        self.up = nn.Linear(size, layer.out_features, bias=False)
        for part in (self.down, self.up):
            nn.init.normal_(part.weight, std=SPREAD)
            part.to(layer.weight.device, torch.promote_types(layer.weight.dtype, torch.float32))
        self.train(layer.training)

    def forward(self, states: Tensor) -> Tensor:
        plain = self.layer(states)
        narrow = self.down(plain if torch.is_autocast_enabled(plain.device.type) else self._wide(plain))
        return plain + self.up(narrow.relu() if self.bend else narrow).to(plain.dtype)

    def _wide(self, states: Tensor) -> Tensor:
        return states.to(self.down.weight.dtype)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The layer with (I + U D) W and (I + U D) b, in the dtype of the adapter; not where f bends."""
        layer, dtype = self.layer, self.down.weight.dtype
        for name, whole in list(layer.named_parameters()):
            wide = whole.to(dtype)
            added = self.up.weight @ (self.down.weight @ wide)
            setattr(layer, name, nn.Parameter(wide + added, requires_grad=False))
        return layer


@trainable("bottleneck", source="arXiv:2110.06274 sec. 3.2; microsoft/LiST, src/model_adaptation.py")
class BottleneckAdapters:
    """Adapters without a bend behind the last projections of attention and of the feed-forward part.

    size: numbers in the middle, the paper's 128. shape: `linear`, or `relu` for the adapters of Houlsby et
    al., which bend in the middle. targets: name endings of the layers that get one. last: only in so many
    of the uppermost blocks; None for all. keep: `parts` keeps the adapters beside their base, so that a later
    step goes on with them; `folded` multiplies linear ones into the layers before them, which costs nothing
    afterwards, and which others load. A model with such adapters goes on with them, if all these are the
    same.
    """

    def __init__(
        self,
        *,
        size: int = 128,
        shape: Literal["linear", "relu"] = "linear",
        targets: tuple[str, ...] = ("o_proj", "down_proj"),
        last: int | None = None,
        keep: Literal["parts", "folded"] = "parts",
    ) -> None:
        if size < 1 or (last is not None and last < 1):
            raise UsageError(f"bottleneck: size is {size} and last {last}: both are 1 or more")
        if shape == "relu" and keep == "folded":
            raise UsageError("bottleneck: only linear adapters can be folded: keep the parts, or set shape")
        self.size, self.bend, self.targets, self.last = size, shape == "relu", tuple(targets), last
        self.keep = keep

    def attach(self, model: nn.Module) -> nn.Module:
        """The model with adapters behind its target layers, or as it is where it has them."""
        names = self._wanted(model)
        if there := bottlenecks(model):
            one = next(iter(there.values()))
            has = (one.down.out_features, one.bend, sorted(there))
            if has != (self.size, self.bend, sorted(names)):
                raise ModelError(
                    f"the {len(there)} adapters to go on with have size {one.down.out_features} and shape "
                    f"{'relu' if one.bend else 'linear'}; asked for are {len(names)} of size {self.size} and "
                    f"shape {'relu' if self.bend else 'linear'}: set size, shape, targets and last alike"
                )
            return model
        refuse_adapter(model, "bottleneck puts adapters into")
        for name in names:
            layer = linear(model, name, "bottleneck")
            put(model, name, Bottleneck(layer, size=self.size, bend=self.bend))
        return model

    def _wanted(self, model: nn.Module) -> list[str]:
        """The names of the target layers, of the uppermost blocks where only these are asked for."""
        named = [name for name, _ in model.named_modules()]
        found = [name for name in named if any(name.endswith(f".{target}") for target in self.targets)]
        if not found:
            raise ModelError(f"bottleneck: no layer of this model is called {' or '.join(self.targets)}")
        blocks = list(dict.fromkeys(_block(name) for name in found))
        if self.last is not None and self.last > len(blocks):
            raise ModelError(f"bottleneck: last is {self.last}, and this model has {len(blocks)} blocks")
        kept = set(blocks if self.last is None else blocks[-self.last :])
        return [name for name in found if _block(name) in kept]

    def select(self, model: nn.Module, draw: Draw) -> dict[str, bool]:
        """All D and U."""
        return {f"{name}.{part}.weight": True for name in bottlenecks(model) for part in ("down", "up")}

    def finish(self, model: nn.Module) -> nn.Module:
        """The model as it is, or, if that was asked for, with the adapters in its own weights, changed in
        place."""
        if self.keep == "folded":
            for name, part in bottlenecks(model).items():
                put(model, name, part.folded())
            own.forget(model)
        return model


def bottlenecks(model: nn.Module) -> dict[str, Bottleneck]:
    """The adapters, by the names of the layers that they stand behind."""
    return instances(model, Bottleneck)


def _block(name: str) -> str:
    """The number of the block that a layer is in, by its name."""
    return next((piece for piece in name.split(".") if piece.isdecimal()), "")
