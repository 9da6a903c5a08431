"""What losses over pairs of answers are put together from: how likely the two are, and links to a loss.

A link takes a margin, or two rewards, that `beta` has scaled already, and gives a loss per pair: all (E,).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from turnsmith.objectives.advantages import drift
from turnsmith.types import Scores

CERTAIN = 1e-6  # nats per token: above it the odds are infinite in fp32
FARTHEST = 80.0  # nats, whose exponential fp32 still holds


class Pair(NamedTuple):
    """A number for the chosen answer of each example and one for the rejected one: (E,) each."""

    chosen: Tensor
    rejected: Tensor

    @property
    def margin(self) -> Tensor:
        return self.chosen - self.rejected

    def times(self, factor: float | Tensor) -> Pair:
        return Pair(factor * self.chosen, factor * self.rejected)


# ------------------------------------------------------------------------- how likely the answers are


def log_ratios(s: Scores) -> Pair:
    """Log-prob minus reference log-prob, summed over the trained tokens of an answer."""
    return Pair(s.ratio("chosen"), s.ratio("rejected"))


def mean_log_ratios(s: Scores) -> Pair:
    """`log_ratios` per trained token; 0 where nothing is trained."""
    assert s.reference is not None
    return means(s, s.logprobs - s.reference)


def log_probs(s: Scores) -> Pair:
    """Log-probs, summed over the trained tokens of an answer."""
    return Pair(s.sums("chosen"), s.sums("rejected"))


def mean_log_probs(s: Scores) -> Pair:
    """`log_probs` per trained token; 0 where nothing is trained."""
    return Pair(s.means("chosen"), s.means("rejected"))


def log_odds(s: Scores) -> Pair:
    """log(p / (1 - p)) of p = exp(mean log-prob), exact for small means too."""
    return Pair(*map(_log_odds, mean_log_probs(s)))


def _log_odds(mean: Tensor) -> Tensor:
    mean = mean.clamp_max(-CERTAIN)
    return mean - (-mean.expm1()).log()


def shared_log_ratios(s: Scores, beyond: float) -> Pair:
    """`log_ratios` in which the tokens that an answer has more of than the other one count `beyond` each."""
    counts = s.path.bincount(minlength=len(s.paths))
    order = s.path.argsort(stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[s.path[order]]
    shorter = torch.minimum(s.of("chosen", counts), s.of("rejected", counts))
    weight = torch.where(places < shorter[s.owners], 1.0, beyond)
    assert s.reference is not None
    apart = weight * (s.logprobs - s.reference)
    return Pair(s.along("chosen", apart), s.along("rejected", apart))


def slopes(pair: Pair, divergence: Literal["alpha", "js"], alpha: float) -> Pair:
    """f'(u) of log-ratios log u, f being the divergence from the reference; less a constant, which no margin
    keeps. `alpha`: (1 - u^-alpha) / alpha, log u where alpha is 0. `js`: log(2 u / (1 + u))."""
    if divergence == "js":
        return Pair(*(F.logsigmoid(ratio) + math.log(2) for ratio in pair))
    if alpha == 0:
        return pair
    return Pair(*(-(-alpha * ratio).clamp_max(FARTHEST).expm1() / alpha for ratio in pair))


def lengths(s: Scores) -> Pair:
    """How many tokens of an answer are trained, by their weights."""
    return Pair(s.lengths("chosen"), s.lengths("rejected"))


def means(s: Scores, what: Tensor) -> Pair:
    """Weighted means of `what` (N,) over the trained tokens of an answer; 0 where nothing is trained."""
    sums = Pair(s.along("chosen", what), s.along("rejected", what))
    return Pair(*(total / n.clamp_min(1e-9) for total, n in zip(sums, lengths(s), strict=True)))


def far(s: Scores, *parts: str) -> Tensor:
    """(E,): mean over the trained tokens of these parts of p / q - log(p / q) - 1, p of the policy and q of
    the reference: its KL from the policy, in nats per token, in expectation over what the reference says."""
    assert s.reference is not None
    apart = drift(s.reference, s.logprobs)
    sums = torch.stack([s.along(part, apart) for part in parts]).sum(0)
    return sums / torch.stack([s.lengths(part) for part in parts]).sum(0).clamp_min(1e-9)


# --------------------------------------------------------------------------------- links of a margin


def logistic(margin: Tensor) -> Tensor:
    """log(1 + exp(-margin))."""
    return -F.logsigmoid(margin)


def hinged(margin: Tensor) -> Tensor:
    """What the margin lacks to 1."""
    return (1 - margin).clamp_min(0)


def squared(margin: Tensor, target: float) -> Tensor:
    """The square of what the margin lacks to the target, or exceeds it by."""
    return (margin - target) ** 2


def conservative(margin: Tensor, flipped: float) -> Tensor:
    """The logistic loss that is expected where this share of the labels is the wrong way round."""
    return (1 - flipped) * logistic(margin) + flipped * logistic(-margin)


def unbiased(margin: Tensor, flipped: float) -> Tensor:
    """What is, over such labels, in expectation the logistic loss of the right ones. May be below 0."""
    return ((1 - flipped) * logistic(margin) - flipped * logistic(-margin)) / (1 - 2 * flipped)


def reverse_divergence(margin: Tensor, flipped: float) -> Tensor:
    """KL(q || p) between two answers: q = sigmoid(margin) is what the policy says, and p = 1 - flipped."""
    first, second = -logistic(margin), -logistic(-margin)
    return first.exp() * (first - math.log1p(-flipped)) + second.exp() * (second - math.log(flipped))


def modulated(margin: Tensor, temperature: float) -> Tensor:
    """(1 - m) log(1 + exp(-margin)) + m exp(-margin), where m = sigmoid(margin / temperature).

    One exponential, since the two factors of the second term are 0 and infinite where pairs are far wrong.
    """
    share = margin / temperature
    return F.logsigmoid(-share).exp() * logistic(margin) + (F.logsigmoid(share) - margin).exp()


# ------------------------------------------------------------------------------ links of two rewards


def square_apart(rewards: Pair, target: float) -> Tensor:
    """The chosen reward is drawn to the target, the rejected one to its negative: squares, added."""
    return squared(rewards.chosen, target) + squared(rewards.rejected, -target)


def anchored(rewards: Pair, towards: Literal["zero", "down"]) -> Tensor:
    """`zero` draws the chosen reward up and the rejected one down; `down` both, the rejected one further."""
    if towards == "zero":
        return (-rewards.chosen).sigmoid() + rewards.rejected.sigmoid()
    return rewards.chosen.sigmoid() + (-rewards.margin).sigmoid()


def classified(rewards: Pair, shift: float | Tensor) -> Tensor:
    """The logistic loss of each answer alone, as one above the shift or below it."""
    return logistic(rewards.chosen - shift) + logistic(shift - rewards.rejected)


def contrasted(rewards: Pair) -> Tensor:
    """The chosen answer as one of the data, and each of the two, by half, as one of the reference."""
    return logistic(rewards.chosen) + (logistic(-rewards.chosen) + logistic(-rewards.rejected)) / 2
