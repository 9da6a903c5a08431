"""What is under a peft model."""

from __future__ import annotations

from typing import Any

from torch import nn


def bare(model: nn.Module) -> nn.Module:
    """The transformers model itself, adapters included where they replaced its layers."""
    whole: Any = model
    return whole.get_base_model() if hasattr(whole, "get_base_model") else whole
