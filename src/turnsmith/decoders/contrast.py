"""Contrastive generation: what a model writes that it would not have written before it was tuned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from turnsmith.errors import UsageError
from turnsmith.registry import decoder

if TYPE_CHECKING:
    from torch import Tensor


@decoder("contrast", members=("tuned", "known"), source="Isonuma & Titov 2024, static CGE")
def contrast(tuned: Tensor, known: Tensor, *, cut: float = 0.1, power: float = 1.0) -> Tensor:
    """p_tuned^power / p_known among the tokens that `tuned` finds plausible, and nothing else.

    known: the model before it was tuned, or what has learnt since what was found already. cut: the paper's
    plausibility a; a token is plausible whose probability under `tuned` is at least that share of the highest
    one. 1 leaves the most probable token (and ties), 0 all of them.
    """
    if not 0 <= cut <= 1:
        raise UsageError(f"contrast: cut is {cut}: it is a share from 0 to 1")
    least = tuned.amax(-1, keepdim=True) + (math.log(cut) if cut else -math.inf)
    return (power * tuned - known).where(tuned >= least, -math.inf)
