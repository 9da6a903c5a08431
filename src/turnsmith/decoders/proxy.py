"""Proxy-tuning: a large model that nobody tunes is steered by what tuning did to a small one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnsmith.registry import decoder

if TYPE_CHECKING:
    from torch import Tensor


@decoder("proxy", members=("base", "expert", "anti"), source="arXiv:2401.08565 eq. 1")
def proxy(base: Tensor, expert: Tensor, anti: Tensor, *, alpha: float = 1.0) -> Tensor:
    """The base's logits, plus `alpha` times what tuning added to those of a small model: p is proportional to
    p_base (p_expert / p_anti)^alpha.

    expert, anti: the small model tuned and untuned. alpha: 0 is the base alone.
    """
    return base + alpha * (expert - anti)
