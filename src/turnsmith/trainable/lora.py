"""Low-rank adapters, through peft."""

from __future__ import annotations

from typing import Any

from torch import nn

from turnsmith.errors import ModelError
from turnsmith.registry import trainable
from turnsmith.trainable.install import Draw


@trainable("lora", source="arXiv:2106.09685 eq. 3")
class Lora:
    """Adds a product of two thin matrices to linear layers: W x + (alpha / rank) B A x; B starts at zero.

    targets: name endings of the layers, `all-linear` for all but the output projection. scale_by_root divides
    alpha by sqrt(rank) instead (arXiv:2312.03732). A model that carries an adapter already goes on with it.
    """

    def __init__(
        self,
        *,
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.0,
        targets: tuple[str, ...] = ("all-linear",),
        scale_by_root: bool = False,
    ) -> None:
        self.rank = rank
        self.settings: dict[str, Any] = {
            "r": rank,
            "lora_alpha": alpha,
            "lora_dropout": dropout,
            "target_modules": "all-linear" if targets == ("all-linear",) else list(targets),
            "use_rslora": scale_by_root,
            "task_type": "CAUSAL_LM",
        }

    def attach(self, model: nn.Module) -> nn.Module:
        """A peft model around `model`, or `model` itself if it is one."""
        from peft import LoraConfig, PeftModel, get_peft_model

        if isinstance(model, PeftModel):
            rank = getattr(model.active_peft_config, "r", None)
            if rank != self.rank:
                raise ModelError(
                    f"the adapter to go on with has rank {rank}, asked for is {self.rank}: set rank "
                    f"to {rank}, or "
                    "merge the adapter first (turnsmith export --form merged)"
                )
            return model
        try:
            return get_peft_model(model, LoraConfig(**self.settings))  # type: ignore[arg-type]
        except ValueError as error:
            raise ModelError(f"lora cannot be attached: {error}") from None

    def select(self, model: nn.Module, draw: Draw) -> dict[str, bool]:
        """The adapter's matrices."""
        return {name: True for name, _ in model.named_parameters() if "lora_" in name}
