"""Objectives that raise the likelihood of what the data say."""

from __future__ import annotations

from turnsmith.errors import UsageError
from turnsmith.registry import objective
from turnsmith.types import Loss, Scores

WEIGHT = "weight"  # the value that says how much an example counts


@objective("sft", per="token", linear=True, source="arXiv:2203.02155 sec. 3.5")
def sft(s: Scores) -> Loss:
    """Negative log-likelihood of each trained token, weighted by the token's loss weight.

    Gives (N,) in nats. The sum over the window is divided by the window's sum of weights, so a token counts
    the same in a long conversation as in a short one.
    """
    return Loss(-s.logprobs)


@objective("dft", per="token", source="arXiv:2508.05629")
def dft(s: Scores) -> Loss:
    """Dynamic fine-tuning: -p log p of each trained token, without a gradient through the first factor.

    The better a token is predicted the more it counts, the other way round than in `focal`: what the model
    finds unlikely does not throw it off. Gives (N,) in nats; the metric `likelihood` is without the factor.
    """
    return Loss(-s.logprobs.detach().exp() * s.logprobs, {"likelihood": -s.logprobs.detach()})


@objective("focal", per="token", source="arXiv:1708.02002 eq. 5")
def focal(s: Scores, *, gamma: float = 2.0) -> Loss:
    """-w (1 - p)^gamma log p of each trained token: the better it is predicted, the less it counts.

    p: what the model gives the token; gamma: 0 is `sft`. w, the paper's alpha: the example's value `weight`,
    as the stage `inverse_frequency` gives it, or 1 where examples have none; it does not count in what the
    sum is divided by. Gives (N,) in nats. Raises UsageError where gamma is below 0.
    """
    if gamma < 0:
        raise UsageError(f"focal: gamma is {gamma}, and must be 0 or above")
    # 1 - p, exact where p is near 1; above 0, since the slope of a root has no value at 0.
    missing = (-s.logprobs.expm1()).clamp_min(1e-12)
    losses = -s.logprobs if gamma == 0 else -(missing**gamma) * s.logprobs
    if WEIGHT in s.values:
        losses = s.values[WEIGHT].to(losses.dtype)[s.owners] * losses
    return Loss(losses, {"likelihood": -s.logprobs.detach()})
