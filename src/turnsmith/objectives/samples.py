"""Objectives over several replies to one prompt, each of which has a reward.

A unit is a prompt: examples have the part `replies`, n conversations of which n may differ from prompt to
prompt, and the value `reward`, a number for each. Log-probs of a reply are summed over its trained tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from turnsmith.objectives.advantages import above
from turnsmith.registry import objective
from turnsmith.types import Loss, Scores


@objective(
    "best_of_n", per="example", parts=("replies",), values=("reward",), linear=True, source="arXiv:2404.14367"
)
def best_of_n(s: Scores, *, negative: float = 0.0) -> Loss:
    """Likelihood of the best reply to each prompt, and how much of that of the worst one is taken off.

    -log pi(best) + negative * log pi(worst); of equally good replies the first one is the best, and the worst
    too, so that with `negative` 1 equal rewards teach nothing. negative: the paper's beta of this loss, which
    from 1 on has no lower bound. Gives (E,).
    """
    rewards = s.values["reward"]
    likely = rows(s, s.sums("replies"), 0.0)
    best = rows(s, rewards, -torch.inf).argmax(1, keepdim=True)
    worst = rows(s, rewards, torch.inf).argmin(1, keepdim=True)
    first, last = (likely.gather(1, at)[:, 0] for at in (best, worst))
    top = rows(s, rewards, -torch.inf).amax(1).to(likely.dtype)
    metrics = {"reward": _mean(s, rewards).to(likely.dtype), "reward_best": top, "nats_best": -first}
    return Loss(negative * last - first, metrics)


@objective(
    "rwr", per="example", parts=("replies",), values=("reward",), linear=True, source="arXiv:2404.14367"
)
def rwr(s: Scores, *, temperature: float = 1.0, largest: float = 20.0) -> Loss:
    """Reward-weighted regression: likelihood of each reply, weighted by the exponential of its reward.

    The mean over the replies to a prompt of -min(exp(reward / temperature), largest) * log pi(reply).
    temperature: the paper's beta. largest: the weight that no reply exceeds; 20 is that of advantage-weighted
    regression (arXiv:1910.00177). Gives (E,). Raises ValueError unless both are above 0.
    """
    for name, value in {"temperature": temperature, "largest": largest}.items():
        if value <= 0:
            raise ValueError(f"rwr: {name} is {value}, and has to be above 0")
    rewards, likely = s.values["reward"], s.sums("replies")
    weights = (rewards / temperature).exp().clamp_max(largest).to(likely.dtype)
    metrics = {"reward": _mean(s, rewards).to(likely.dtype), "weight": _mean(s, weights)}
    return Loss(-_mean(s, weights * likely), metrics)


@objective(
    "reinforce", per="example", parts=("replies",), values=("reward",), linear=True, source="arXiv:2404.14367"
)
def reinforce(
    s: Scores,
    *,
    normalise: Literal["mean", "deviation", "others", "none"] = "deviation",
    positive: bool = False,
) -> Loss:
    """Policy gradient: likelihood of each reply times its advantage, which is below 0 for poor replies.

    The mean over the replies to a prompt of -advantage * log pi(reply). The advantage is the reward, less the
    mean of the prompt's rewards, divided by their standard deviation; `mean` does not divide, `others` takes
    the mean of the other replies (arXiv:2402.14740), and `none` takes rewards as they are, e.g. as the stage
    `standardised` left them. positive: the least advantage of
    each prompt is taken off all of its own, so that no likelihood is pushed down. Gives (E,).
    """
    rewards, likely = s.values["reward"], s.sums("replies")
    advantages = above(rewards, s.owner("replies"), normalise).to(likely.dtype)
    if positive:
        advantages = advantages - rows(s, advantages, torch.inf).amin(1)[s.owner("replies")]
    metrics = {"reward": _mean(s, rewards).to(likely.dtype), "nats": -_mean(s, likely)}
    return Loss(-_mean(s, advantages * likely), metrics)


def _mean(s: Scores, values: Tensor) -> Tensor:
    """Means of (S,) over the replies to each prompt: (E,)."""
    owner = s.owner("replies")
    counts = owner.bincount(minlength=s.examples)
    return s.per_example(owner, values) / counts


def rows(s: Scores, values: Tensor, fill: float) -> Tensor:
    """(E, n): the numbers (S,) of each prompt's replies in a row, `fill` behind those of one with fewer."""
    owner = s.owner("replies")
    counts = owner.bincount(minlength=s.examples)
    place = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
    table = values.new_full((s.examples, int(counts.max())), fill)
    return table.index_put((owner, place), values)
