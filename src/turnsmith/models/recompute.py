"""Activation checkpointing: less memory for more arithmetic."""

from __future__ import annotations

from typing import Any


def recompute(model: Any, **checkpoint: Any) -> None:
    """Let the model's blocks compute their activations again in the backward pass instead of keeping them.

    checkpoint: further arguments of torch's `checkpoint`.
    """
    new = hasattr(model, "activation_checkpointing_enable")  # transformers 5.17 has the other spelling only
    enable = model.activation_checkpointing_enable if new else model.gradient_checkpointing_enable
    enable({"use_reentrant": False, **checkpoint})
