"""Low-rank adapters, through peft."""

from __future__ import annotations

from typing import Any

from torch import nn

from turnsmith.errors import ModelError
from turnsmith.models import fronts
from turnsmith.models.directory import FRONT
from turnsmith.registry import trainable
from turnsmith.trainables.install import Draw

# Our options, and what peft calls them.
OPTIONS = {
    "rank": "r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "targets": "target_modules",
    "scale_by_root": "use_rslora",
    "whole": "modules_to_save",
}
DORA = "use_dora"  # peft's word for adapters whose lengths learn apart


@trainable("lora", source="arXiv:2106.09685 eq. 3")
class Lora:
    """Adds a product of two thin matrices to linear layers: W x + (alpha / rank) B A x; B starts at zero.

    targets: name endings of the layers, `all-linear` for all but the output projection. scale_by_root divides
    alpha by sqrt(rank) instead (arXiv:2312.03732). A model that carries an adapter already goes on with it;
    its settings must be those asked for. Its targets are compared only where they are named. whole: names of
    modules that learn themselves beside the adapters, e.g. `projector` of a model that sees; they are copied,
    and saved with the adapter. Linear layers of a front get no adapters.
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
        self.settings: dict[str, Any] = {
            "r": rank,
            "lora_alpha": alpha,
            "lora_dropout": dropout,
            "target_modules": "all-linear" if targets == ("all-linear",) else list(targets),
            "use_rslora": scale_by_root,
            "modules_to_save": list(whole) or None,
            DORA: False,
            "task_type": "CAUSAL_LM",
        }

    def attach(self, model: nn.Module) -> nn.Module:
        """A peft model around `model`, or `model` itself if it is one."""
        from peft import LoraConfig, PeftModel, get_peft_model

        if isinstance(model, PeftModel):
            self._compare(model.active_peft_config)
            return model
        for name in self.settings["modules_to_save"] or ():
            if not any(f".{one}".endswith(f".{name}") for one, _ in model.named_modules()):
                raise ModelError(f"lora: whole names {name!r}, and no module of this model is called so")
        front = rf".*\.{FRONT}\..*" if fronts.of(model) is not None else None
        try:
            return get_peft_model(model, LoraConfig(**self.settings, exclude_modules=front))
        except ValueError as error:
            raise ModelError(f"lora cannot be attached: {error}") from None

    def _compare(self, adapter: Any) -> None:
        there = "dora" if getattr(adapter, DORA, False) else "lora"
        wanted = "dora" if self.settings[DORA] else "lora"
        if there != wanted:
            raise ModelError(
                f"the adapter to go on with is one of {there}, asked for is {wanted}: train with {there}, or "
                "merge the adapter first (turnsmith export --to safetensors)"
            )
        for option, key in OPTIONS.items():
            wanted, there = self.settings[key], getattr(adapter, key, None)
            if isinstance(wanted, list) and isinstance(there, set | list):
                wanted, there = sorted(wanted), sorted(there)
            if wanted not in (there, "all-linear"):
                raise ModelError(
                    f"the adapter to go on with has {option} {there}, asked for is {wanted}: set {option} to "
                    f"{there}, or merge the adapter first (turnsmith export --to safetensors)"
                )

    def select(self, model: nn.Module, draw: Draw) -> dict[str, bool]:
        """The adapter's matrices, and the copies of what learns whole."""
        marks = ("lora_", ".modules_to_save.")
        return {name: True for name, _ in model.named_parameters() if any(mark in name for mark in marks)}
