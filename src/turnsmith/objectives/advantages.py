"""What losses over a model's own answers are put together from: how much better than expected an answer was,
what is gained where the model moves towards it, and how far it has moved from its start.

Rewards of answers and what is made of them are (S,), in the order of `owner` (S,), which says to which prompt
each belongs; answers to a prompt stand together.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

LEAST = 1e-4  # standard deviation below which advantages count as equal: what is left is rounding
SPREAD = (
    1e-6  # rewards of one prompt that differ by less are the same, and have no deviation to be divided by
)

Baseline = Literal["mean", "deviation", "others", "none"]


# ------------------------------------------------------------------------------------ of whole answers


def above(rewards: Tensor, owner: Tensor, baseline: Baseline) -> Tensor:
    """How far each reward is above what its prompt's answers get: (S,).

    `mean`: of all of them; `deviation`: the same, divided by their standard deviation (of n, not n - 1), and
    0 where they are equal; `others`: the mean of the others, and 0 for the only answer; `none`: as it is.

    >>> above(torch.tensor([1.0, 4.0, 2.0]), torch.tensor([0, 0, 0]), "others")
    tensor([-2.0000,  2.5000, -0.5000])
    """
    if baseline == "none":
        return rewards
    counts = owner.bincount()
    centred = rewards - (_sums(rewards, owner) / counts.to(rewards.dtype))[owner]
    if baseline == "mean":
        return centred
    if baseline == "others":  # (n r - sum) / (n - 1)
        several = (counts / (counts - 1).clamp_min(1)).to(rewards.dtype)
        return several[owner] * centred
    deviation = (_sums(centred**2, owner) / counts.to(rewards.dtype)).sqrt()
    return torch.where(deviation > SPREAD, 1 / deviation.clamp_min(SPREAD), 0.0)[owner] * centred


def _sums(values: Tensor, owner: Tensor) -> Tensor:
    return values.new_zeros(int(owner.max()) + 1 if len(owner) else 0).index_add(0, owner, values)


def whitened(values: Tensor) -> Tensor:
    """With mean 0 and standard deviation 1; all 0 where they are equal."""
    centred = values - values.mean()
    spread = centred.square().mean().sqrt()
    return centred / spread if spread > LEAST else torch.zeros_like(centred)


# ------------------------------------------------------------------------------------------ of actions


def gae(rewards: Tensor, values: Tensor, *, discount: float = 1.0, trace: float = 0.95) -> Tensor:
    """Generalised advantage estimates of the actions of one episode, after which nothing is expected.

    rewards, values: (T,), values of the state before each action. Gives (T,): sum over j >= t of (discount *
    trace)**(j - t) * d_j, with d_j = rewards[j] + discount * values[j + 1] - values[j].
    Source: arXiv:1506.02438 eq. 16; trace is its lambda.

    >>> gae(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5]), discount=1.0, trace=0.5)
    tensor([0.2500, 0.5000])
    """
    after = torch.cat([values[1:], values.new_zeros(1)])
    errors = rewards + discount * after - values
    found = torch.zeros_like(errors)
    ahead = errors.new_zeros(())
    for at in range(len(errors) - 1, -1, -1):
        ahead = errors[at] + discount * trace * ahead
        found[at] = ahead
    return found


# ------------------------------------------------------------------------------------- gain and drift


def gained(ratio: Tensor, advantage: Tensor, *, low: float, high: float, most: float | None = None) -> Tensor:
    """min(min(r, most) A, clip(r, 1 - low, 1 + high) A): no more is gained where the ratio has left its
    bounds the right way, and no more is lost where it is above `most`. Source: arXiv:1707.06347 eq. 7; two
    bounds as of arXiv:2503.14476 eq. 10; the third, their delta, of arXiv:2505.07291."""
    held = ratio if most is None else ratio.clamp_max(most)
    return torch.minimum(held * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def softly(ratio: Tensor, advantage: Tensor, *, up: float, down: float) -> Tensor:
    """4 / t * sigmoid(t * (r - 1)) * A: what is gained levels off smoothly on both sides of r = 1, where its
    slope is A. t: `up` where A is above 0, `down` elsewhere. Source: arXiv:2511.20347."""
    steep = torch.where(advantage > 0, up, down).to(ratio.dtype)
    return 4 / steep * (steep * (ratio - 1)).sigmoid() * advantage


def reinforced(logprobs: Tensor, ratio: Tensor, advantage: Tensor, *, most: float) -> Tensor:
    """min(r, most) * A * log pi, without a slope through the first: every token teaches, also where the ratio
    is out of bounds. Source: arXiv:2506.13585 eq. 4, 5."""
    return ratio.detach().clamp_max(most) * advantage * logprobs


def drift(logprobs: Tensor, reference: Tensor) -> Tensor:
    """q / p - log(q / p) - 1, p of the model and q of the reference: never below 0, and in expectation over
    what the model draws its KL from the reference. Source: arXiv:2402.03300 eq. 4."""
    apart = reference - logprobs
    return apart.expm1() - apart
