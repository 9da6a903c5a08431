"""Objectives that raise the reward of what a model has drawn itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from turnsmith.registry import objective
from turnsmith.types import Loss, Scores

LEAST = 1e-4  # standard deviation below which advantages count as equal: what is left is rounding


@objective(
    "ppo",
    per="token",
    reference=True,
    heads={"value": 1},
    values=("reward",),
    extras=("old", "advantage", "target", "expected"),
    source="arXiv:1707.06347 eq. 7; arXiv:1506.02438 eq. 16; arXiv:2203.02155 sec. 3.5",
)
class Ppo:
    """Proximal policy optimisation: what was drawn becomes likelier by its advantage, near what drew it.

    Each trained token is an action, with the reward -kl * (log pi_old - log pi_start), and the last one of an
    answer, which may be its end, the example's value `reward` too, clipped to +-clip_reward. Advantages by
    `gae`, whitened over all tokens of the round. Of each token the loss is -min(r A, clip(r, 1 - clip, 1 +
    clip) A), r = pi / pi_old, plus value_weight * max((V - G)^2, (V' - G)^2) / 2, where G is the advantage
    before whitening plus the value then, and V' the value held within +-clip_value of that. Gives (N,).
    kl: the papers' beta, or kl_coef. clip: epsilon. discount: gamma. trace: lambda.
    """

    def __init__(
        self,
        *,
        kl: float = 0.1,
        clip: float = 0.2,
        clip_value: float = 0.2,
        clip_reward: float = 5.0,
        discount: float = 1.0,
        trace: float = 0.95,
        value_weight: float = 0.5,
    ) -> None:
        self.kl, self.clip, self.clip_value, self.clip_reward = kl, clip, clip_value, clip_reward
        self.discount, self.trace, self.value_weight = discount, trace, value_weight

    def credit(self, scores: Sequence[Scores]) -> list[dict[str, Tensor]]:
        """What a round's tokens were worth, under the model that drew them."""
        found: list[dict[str, Tensor]] = []
        for s in scores:
            expected = s.heads["value"]
            advantage = torch.zeros_like(expected)
            rewards = self.rewards(s)
            for at in answers(s):
                advantage[at] = gae(rewards[at], expected[at], discount=self.discount, trace=self.trace)
            target = advantage + expected
            found.append({"old": s.logprobs, "advantage": advantage, "target": target, "expected": expected})
        whole = whitened(torch.cat([one["advantage"] for one in found]))
        parts = whole.split([len(one["advantage"]) for one in found])
        return [one | {"advantage": part} for one, part in zip(found, parts, strict=True)]

    def rewards(self, s: Scores) -> Tensor:
        """(N,): the reward of each token that was drawn."""
        assert s.reference is not None
        rewards = -self.kl * (s.logprobs - s.reference)
        owners = s.owner("text")
        for at in answers(s):
            score = s.values["reward"][owners[s.path[at[-1]]]]
            rewards[at[-1]] += score.clamp(-self.clip_reward, self.clip_reward)
        return rewards

    def __call__(self, s: Scores) -> Loss:
        old, advantage, target, expected = (
            s.extras[name] for name in ("old", "advantage", "target", "expected")
        )
        assert s.reference is not None
        ratio = (s.logprobs - old).exp()
        held = ratio.clamp(1 - self.clip, 1 + self.clip)
        gain = torch.minimum(ratio * advantage, held * advantage)
        value = s.heads["value"]
        near = expected + (value - expected).clamp(-self.clip_value, self.clip_value)
        error = torch.maximum((value - target) ** 2, (near - target) ** 2) / 2
        metrics = {
            "ratio": ratio,
            "clipped": (ratio != held).to(ratio.dtype),
            "value_error": error,
            "from_start": s.logprobs - s.reference,
        }
        values = -gain + self.value_weight * error
        return Loss(values, metrics)


def answers(s: Scores) -> Iterator[Tensor]:
    """The places among the N trained tokens of each path that has some, in their order."""
    for path in range(len(s.paths)):
        at = (s.path == path).nonzero()[:, 0]
        if len(at):
            yield at


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


def whitened(values: Tensor) -> Tensor:
    """With mean 0 and standard deviation 1; all 0 where they are equal."""
    centred = values - values.mean()
    spread = centred.square().mean().sqrt()
    return centred / spread if spread > LEAST else torch.zeros_like(centred)
