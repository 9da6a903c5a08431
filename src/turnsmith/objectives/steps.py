"""Objectives over pairs that hold each pair against all pairs of its step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from turnsmith.errors import UsageError
from turnsmith.objectives import margins
from turnsmith.objectives.pairs import rewarded
from turnsmith.registry import objective
from turnsmith.types import Look, Loss, Scores

SHIFT = "shift"  # the values that an example has from its step
CHOSEN, REJECTED = "against_chosen", "against_rejected"


@objective(
    "bco",
    per="example",
    parts=("chosen", "rejected"),
    reference=True,
    source="arXiv:2404.04656 eq. 9, 10",
    version=2,
)
class Bco:
    """A classifier of good and bad answers, whose logit is the reward of each alone, less a shift.

    -log sigmoid(r of chosen - shift) - log sigmoid(shift - r of rejected), r = beta * log-ratio against the
    step's start. shift: None is the paper's delta, the mean r of chosen and of rejected answers, there a
    running mean, here that of the step's pairs before the step, which takes two passes more; a number is the
    same in every step, 0 in TRL's loss of pairs. No gradient goes through it. It needs `fit: {reference:
    live}`. Data of `validate_on` have a shift of 0, or that number. Gives (E,); 2 log 2 where policy and
    reference are the same and nothing is shifted.
    """

    def __init__(self, *, beta: float = 0.1, shift: float | None = None) -> None:
        self.beta, self.shift = beta, shift

    def before_step(self, look: Look) -> dict[str, list[float]]:
        """The shift of the coming step, for each example the same."""
        if self.shift is not None:
            return {}
        mean = look.each(look.window, _log_ratios).mean().item()
        return {SHIFT: [self.beta * mean] * len(look.window)}

    def __call__(self, s: Scores) -> Loss:
        rewards = margins.log_ratios(s).times(self.beta)
        known = s.values.get(SHIFT, rewards.chosen.new_full(rewards.chosen.shape, self.shift or 0.0))
        shift = known.to(rewards.chosen.dtype)
        return Loss(margins.classified(rewards, shift), rewarded(s, rewards) | {"shift": shift})


@objective(
    "aot", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2406.05882 alg. 1, 2"
)
class Aot:
    """Alignment by optimal transport: not each pair, but all pairs of a step as one distribution are to be
    ahead, lowest against lowest and so on up.

    Of each pair l(beta * (m - m')), with m the margin between the log-probs of the chosen and the rejected
    answer, and m' that margin under the step's start which has m's rank among the step's pairs. paired: off,
    chosen and rejected answers need not answer one prompt: m is the log-ratio of a chosen answer, and m' that
    of the rejected one of the same rank. l(z) = (1 - flipped) log(1 + exp(-z)) + flipped log(1 + exp(z)). A
    step of one pair is `dpo`, and so are the data of `validate_on`. It takes two passes more and `fit:
    {reference: live}`; ranks are of before the step. Gives (E,). Raises UsageError unless 0 <= flipped < 0.5.
    """

    def __init__(self, *, beta: float = 0.1, paired: bool = True, flipped: float = 0.0) -> None:
        if not 0 <= flipped < 0.5:
            raise UsageError(f"aot: flipped is {flipped}, and must be 0 or above and below 0.5")
        self.beta, self.paired, self.flipped = beta, paired, flipped

    def before_step(self, look: Look) -> dict[str, list[float]]:
        """What each example's margin, or its two answers, are held against in the coming step."""
        one, other = look.each(look.window, _margins if self.paired else _log_ratios).T.tolist()
        found = {CHOSEN: ranked(one, other)}
        return found if self.paired else found | {REJECTED: ranked(other, one)}

    def __call__(self, s: Scores) -> Loss:
        ratios = margins.log_ratios(s)
        if self.paired:
            own, start = _margins(s).T
            values = self._link(own - _known(s, CHOSEN, start))
        else:
            ahead = self._link(ratios.chosen - _known(s, CHOSEN, ratios.rejected))
            behind = self._link(_known(s, REJECTED, ratios.chosen) - ratios.rejected)
            values = ahead + behind - behind.detach()  # each margin of ranks counts once, its slopes for both
        return Loss(values, rewarded(s, ratios.times(self.beta)))

    def _link(self, margin: Tensor) -> Tensor:
        return margins.conservative(self.beta * margin, self.flipped)


def ranked(own: Sequence[float], others: Sequence[float]) -> list[float]:
    """For each number that of the others, as many, which has its rank; of equals the earlier is lower.

    >>> ranked([3.0, 1.0, 2.0], [20.0, 30.0, 10.0])
    [30.0, 10.0, 20.0]
    """
    found = [0.0] * len(own)
    for at, other in zip(sorted(range(len(own)), key=own.__getitem__), sorted(others), strict=True):
        found[at] = other
    return found


def _log_ratios(s: Scores) -> Tensor:
    """(E, 2): of the chosen and of the rejected answer."""
    return torch.stack(margins.log_ratios(s), -1)


def _margins(s: Scores) -> Tensor:
    """(E, 2): between the log-probs of a pair's answers under the policy, and under the step's start."""
    own = margins.log_probs(s).margin
    return torch.stack([own, (own - margins.log_ratios(s).margin).detach()], -1)


def _known(s: Scores, name: str, otherwise: Tensor) -> Tensor:
    """(E,): what the step says, without a slope."""
    return s.values.get(name, otherwise).detach().to(otherwise.dtype)
