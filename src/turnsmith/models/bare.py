"""What is under a peft model, and how much it reads."""

from __future__ import annotations

from typing import Any

from torch import nn


def bare(model: nn.Module) -> nn.Module:
    """The transformers model itself, adapters included where they replaced its layers."""
    whole: Any = model
    return whole.get_base_model() if hasattr(whole, "get_base_model") else whole


def context(model: nn.Module) -> int | None:
    """The most tokens that the model reads at once; None where it knows no limit."""
    config: Any = getattr(bare(model), "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    return getattr(text, "max_position_embeddings", None)
