"""DoRA: low-rank adapters that learn the direction of each row of weights apart from its length, through
peft."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from turnsmith.registry import trainable
from turnsmith.trainables.install import Draw
from turnsmith.trainables.lora import DORA, Lora


@trainable("dora", source="arXiv:2402.09353 eq. 5")
class Dora:
    """Gives linear layers the weight m (W + (alpha / rank) B A) / |W + (alpha / rank) B A|; m, B and A learn.

    The norm |.| is taken of what leads to each output, the paper's columns, which torch keeps as rows; m, one
    number for each output, starts as that norm of W, and B at zero, so that the model starts as it was. No
    gradient goes through the norm (sec. 4.3). It is worked out anew in every pass, which costs time that
    `lora` does not take. Options as of `lora`.
    """

    def __init__(
        self,
        *,
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.0,
        targets: tuple[str, ...] = ("all-linear",),
        scale_by_root: bool = False,
        whole: tuple[str, ...] = (),
    ) -> None:
        self.adapter = Lora(
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            targets=targets,
            scale_by_root=scale_by_root,
            whole=whole,
        )
        self.adapter.settings[DORA] = True

    def attach(self, model: nn.Module) -> nn.Module:
        """A peft model around `model`, or `model` itself if it is one."""
        whole = self.adapter.attach(model)
        if whole is not model:
            exact(whole)
        return whole

    def select(self, model: nn.Module, draw: Draw) -> dict[str, bool]:
        """The adapter's matrices, the lengths m, and the copies of what learns whole."""
        return self.adapter.select(model, draw)


@torch.no_grad()
def exact(model: nn.Module) -> None:
    """Make the lengths of a new adapter fp32, as the norms are that they are divided by in every pass: of
    frozen weights in bf16 peft takes them in bf16, and the model would not start as it was."""
    for module in model.modules():
        layer: Any = module
        for lengths in getattr(layer, "lora_magnitude_vector", {}).values():
            lengths.weight.data = torch.linalg.norm(layer.get_base_layer().weight.float(), dim=1)
