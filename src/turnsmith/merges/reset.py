"""Merges that take part of what was tuned back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Literal

from turnsmith.errors import UsageError
from turnsmith.registry import merge
from turnsmith.trainables.half import Level, halve

if TYPE_CHECKING:
    from torch import Tensor


@merge("half_reset", source="arXiv:2404.18466 sec. 2")
class HalfReset:
    """Set a random half of a tuned model's matrices back to those of its base (the pilot study of HFT).

    level: how the half is drawn, as for the trainable `half`. reset: `none` and `all` give the tuned model
    and, inside the blocks as outside, the base.
    """

    def __init__(
        self,
        *,
        level: Literal["category", "layer", "model"] = "category",
        reset: Literal["half", "none", "all"] = "half",
    ) -> None:
        self.level: Level = level
        self.reset = reset
        self.kept: Mapping[str, bool] = {}

    def plan(self, dimensions: Mapping[str, int], rng: Random) -> None:
        """Draw which weights, given with their number of dimensions, stay tuned."""
        half = self.reset == "half"
        self.kept = (
            halve(dimensions, rng, self.level) if half else dict.fromkeys(dimensions, self.reset == "none")
        )

    def __call__(self, name: str, base: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        """The tuned or the base's weight."""
        if len(tensors) != 1:
            raise UsageError(f"half_reset takes one tuned model, not {len(tensors)}")
        return tensors[0] if self.kept[name] else base
