"""Objectives that raise the likelihood of what the data say."""

from __future__ import annotations

from turnsmith.registry import objective
from turnsmith.types import Loss, Scores


@objective("sft", per="token", linear=True, source="arXiv:2203.02155 sec. 3.5")
def sft(s: Scores) -> Loss:
    """Negative log-likelihood of each trained token, weighted by the token's loss weight.

    Gives (N,) in nats. The sum over the window is divided by the window's sum of weights, so a token counts
    the same in a long conversation as in a short one.
    """
    return Loss(-s.logprobs)
