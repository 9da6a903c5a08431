"""Activation checkpointing: less memory for more arithmetic."""

from __future__ import annotations

from typing import Any


def recompute(model: Any, **checkpoint: Any) -> None:
    """Let the model's blocks compute their activations again in the backward pass instead of keeping them.

    Called after a trainable is attached: transformers, and peft where it finds this switched on, ask for
    gradients of the embeddings' output, which would lead the backward pass down through all frozen blocks.
    Checkpoints that are not reentrant do not need that, so it is taken back.
    checkpoint: further arguments of torch's `checkpoint`.
    """
    new = hasattr(model, "activation_checkpointing_enable")  # transformers 5.17 has the other spelling only
    enable = model.activation_checkpointing_enable if new else model.gradient_checkpointing_enable
    enable({"use_reentrant": False, **checkpoint})
    model.disable_input_require_grads()
