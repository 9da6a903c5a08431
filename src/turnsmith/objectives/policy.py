"""Objectives that raise the reward of what a model has drawn itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from turnsmith.errors import UsageError
from turnsmith.objectives.advantages import above, drift, gae, gained, whitened
from turnsmith.registry import objective
from turnsmith.types import Loss, Scores


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
        gain = gained(ratio, advantage, low=self.clip, high=self.clip)
        value = s.heads["value"]
        near = expected + (value - expected).clamp(-self.clip_value, self.clip_value)
        error = torch.maximum((value - target) ** 2, (near - target) ** 2) / 2
        metrics = {
            "ratio": ratio,
            "clipped": outside(ratio, self.clip, self.clip),
            "value_error": error,
            "from_start": s.logprobs - s.reference,
        }
        values = -gain + self.value_weight * error
        return Loss(values, metrics)


@objective(
    "rloo",
    per="sequence",
    parts=("replies",),
    reference=True,
    values=("reward",),
    extras=("old", "advantage"),
    source="arXiv:2402.14740 eq. 4, 8",
)
class Rloo:
    """REINFORCE with what a prompt's other answers were worth as the baseline; an answer is one action.

    Of each answer -r A, with r = pi / pi_old over the whole answer, whose gradient where nothing has moved is
    that of -A log pi. A = R - baseline, and R = reward - kl * log(pi_old / pi_start). baseline: `others`, the
    mean R of the prompt's other answers; `round`, the mean of all that were drawn with it, plain REINFORCE;
    or `none`. kl: the paper's beta. clip: r counts for no less than 1 - clip and no more than 1 + clip, as in
    TRL (0.2); 0 is no bound, as in the paper. Under `others` the only answer to a prompt teaches nothing.
    Gives (P,), one for each answer. Raises UsageError where no prompt of a round has two.
    """

    def __init__(
        self,
        *,
        kl: float = 0.05,
        baseline: Literal["others", "round", "none"] = "others",
        clip: float = 0.0,
    ) -> None:
        self.kl, self.baseline, self.clip = kl, baseline, clip

    def credit(self, scores: Sequence[Scores]) -> list[dict[str, Tensor]]:
        """What each answer of a round was worth, under the model that drew it, for each of its tokens."""
        worth = [s.values["reward"] - self.kl * s.ratio("replies") for s in scores]
        if self.baseline == "others":
            several(scores, "rloo: baseline: others")
            found = [above(one, s.owner("replies"), "others") for s, one in zip(scores, worth, strict=True)]
        else:
            middle = torch.cat(worth).mean() if self.baseline == "round" else 0.0
            found = [one - middle for one in worth]
        return [spread(s, one) for s, one in zip(scores, found, strict=True)]

    def __call__(self, s: Scores) -> Loss:
        old, advantage = s.extras["old"], _answer(s, s.extras["advantage"])
        ratio = s.along("replies", s.logprobs - old).exp()
        gain = gained(ratio, advantage, low=self.clip, high=self.clip) if self.clip else ratio * advantage
        from_start = mean(s, drift(s.logprobs, start(s)))
        metrics = {"reward": s.values["reward"], "ratio": ratio, "from_start": from_start}
        return Loss(-gain, metrics | ({"clipped": outside(ratio, self.clip, self.clip)} if self.clip else {}))


def outside(ratio: Tensor, low: float, high: float) -> Tensor:
    """1 where a ratio has left its bounds, else 0."""
    return (ratio != ratio.clamp(1 - low, 1 + high)).to(ratio.dtype)


def answers(s: Scores) -> Iterator[Tensor]:
    """The places among the N trained tokens of each path that has some, in their order."""
    for path in range(len(s.paths)):
        at = (s.path == path).nonzero()[:, 0]
        if len(at):
            yield at


def several(scores: Sequence[Scores], what: str) -> None:
    """Refuse a round in which no prompt has two answers."""
    if all(len(owner) == len(owner.unique()) for owner in (s.owner("replies") for s in scores)):
        raise UsageError(f"{what}: no prompt has two answers to compare: raise n of `answers`")


def spread(s: Scores, advantage: Tensor) -> dict[str, Tensor]:
    """The log-probs now, and the advantage of each answer (P,) for each of its tokens."""
    return {"old": s.logprobs, "advantage": advantage.to(s.logprobs.dtype)[s.path]}


def mean(s: Scores, per_token: Tensor) -> Tensor:
    """Weighted means over each answer: (P,)."""
    return s.along("replies", per_token) / tokens(s)


def tokens(s: Scores) -> Tensor:
    """(P,): how many tokens of each answer are trained, by their weights, and never 0."""
    return s.lengths("replies").clamp_min(1e-9)


def start(s: Scores) -> Tensor:
    """(N,): the log-probs under the step's start."""
    assert s.reference is not None
    return s.reference


def _answer(s: Scores, per_token: Tensor) -> Tensor:
    """(P,): what all tokens of an answer share; 0 for one without a token that learns."""
    return per_token.new_zeros(len(s.paths)).index_copy(0, s.path, per_token)
