"""How a `train` step is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OVER_BEFORE = {"cut": "right", "error": "fail"}  # what values of `over` were called before


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Options of a `train` step.

    steps, epochs: how long; exactly one of them. batch: examples per optimiser step. row: most tokens of one
    micro-batch. length: most tokens of one conversation; `over` says what happens to a longer one: stop with
    an error (`fail`), leave it out (`drop`), cut its `oldest` whole turns, cut the tokens on the `left`, or
    on the `right` after the last whole turn that fits, or cut tokens of the `longest` of context and reply.
    max_dropped: share of examples that may be dropped
    before it is an error.
    lr: peak learning rate, reached after `warmup` (share of the steps), then `schedule` to zero. clip:
    largest gradient norm. temperature: divides the logits, where the data were sampled at that temperature.
    reference: log-probs under the start, computed once before the first step, or at each step (`live`).
    dtype: of the frozen weights and the arithmetic; weights that learn are fp32. auto: whatever a short
    measurement shows to be faster here. cache: where the lowest blocks and the embeddings are frozen, and
    more than one epoch is seen, what they give for each token is computed once and kept on the disk until the
    step is done (`auto`, if that takes no more than half of what is free), or computed anew each time
    (`never`). evaluate: steps between evaluations on held-out data (0: none); the
    best state is kept. patience: evaluations in a row without a better state after which the run ends before
    its time (0: none). nonfinite: what becomes of a step whose loss or gradient is no number: the run is
    stopped, and the state before the step kept, or the step is left out and counted (`skip`).
    shard: of several processes each holds a part of parameters, gradients and optimiser (FSDP2), not all of
    them. checkpoint: steps between checkpoints. trackers: e.g. tensorboard, wandb, mlflow,
    trackio.
    """

    steps: int | None = None
    epochs: float | None = None
    batch: int = 8
    row: int = 1024
    length: int = 1024
    over: Literal["fail", "drop", "oldest", "left", "right", "longest"] = "fail"
    max_dropped: float = 0.5
    order: Literal["shuffled", "given"] = "shuffled"
    lr: float = 2e-4
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = 0.05
    weight_decay: float = 0.0
    clip: float = 1.0
    temperature: float = 1.0
    reference: Literal["precomputed", "live"] = "precomputed"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    cache: Literal["auto", "never"] = "auto"
    evaluate: int = 0
    patience: int = 0
    nonfinite: Literal["stop", "skip"] = "stop"
    shard: bool = False
    checkpoint: int = 25
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.over in OVER_BEFORE:
            raise ValueError(f"over: what was {self.over!r} is now called {OVER_BEFORE[self.over]!r}")
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("say how long to train: exactly one of steps and epochs")
        for name in ("batch", "row", "length", "checkpoint", "temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, is {getattr(self, name)}")
        for name in ("steps", "epochs", "lr", "weight_decay", "clip", "evaluate", "patience"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must not be negative, is {getattr(self, name)}")
        if self.patience and not self.evaluate:
            raise ValueError("patience counts evaluations: say after how many steps each comes, evaluate")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a share of the steps, 0 to 1, not {self.warmup}")

    def total(self, examples: int) -> int:
        """Optimiser steps for this many examples."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * examples / self.batch))
