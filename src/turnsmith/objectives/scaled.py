"""DPO whose scale goes by how far apart the answers of a pair are, and the likelihood of the chosen one."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from statistics import fmean, stdev

from torch import Tensor

from turnsmith import seeds
from turnsmith.errors import UsageError
from turnsmith.objectives import margins
from turnsmith.objectives.pairs import rewarded
from turnsmith.registry import objective
from turnsmith.types import Look, Loss, Scores

SCALE = "scale"  # the value that says what beta is multiplied with in a step
DRAWN = 0.8  # the share of a step's pairs whose mean counts
LEAST = 1e-3  # no beta is below it


@objective(
    "scaled_dpo",
    per="example",
    parts=("chosen", "rejected"),
    reference=True,
    values=("margin",),
    source="arXiv:2502.10391 sec. 4 (MM-DPO, dynamic reward scaling)",
)
def scaled_dpo(
    s: Scores,
    *,
    beta: float = 0.1,
    weight: float = 0.5,
    rate: float = 0.5,
    preference: float = 1.0,
    likelihood: float = 0.25,
) -> Loss:
    """`dpo` with a greater beta for pairs whose value `margin`, the chosen answer's reward less the other's,
    is greater; and the likelihood of the chosen answer.

    preference * -log sigmoid(b * (log-ratio of chosen - log-ratio of rejected)) - likelihood * mean log-prob
    of chosen, with b = beta * (1 + weight * (1 - exp(-rate * margin))), from beta at a margin of 0 to beta *
    (1 + weight). Where the rewards speak against the label, b is beta, as the paper bounds it; its code would
    go below. No gradient goes through the margin. weight, rate: the paper's w and k; likelihood: its gamma,
    preference: dpo_alpha. Gives (E,). Raises UsageError where weight or rate is below 0.
    """
    if weight < 0 or rate < 0:
        raise UsageError(f"scaled_dpo: weight is {weight} and rate {rate}: neither may be below 0")
    pair = margins.log_ratios(s)
    ahead = s.values["margin"].detach().to(pair.chosen.dtype).clamp_min(0)
    scales = beta * (1 + weight * -(-rate * ahead).expm1())
    return _loss(s, scales, preference, likelihood)


@objective(
    "batch_scaled_dpo",
    per="example",
    parts=("chosen", "rejected"),
    reference=True,
    source="Kwai-YuanQi/MM-RLHF, trl/trainer/dpo_trainer.py; arXiv:2407.08639",
)
class BatchScaledDpo:
    """`scaled_dpo` as its authors' trainer runs it: one beta for all pairs of a step, by their own margins.

    With h a pair's log-ratio of chosen less that of rejected before the step: of all pairs 80% are drawn
    without replacement, each by the normal density of h around the step's mean, and b is beta * (1 + weight *
    (mean h of those drawn - mean h of all)), no less than 0.001. It takes two passes more and `fit:
    {reference: live}`. A step of one pair, or of pairs with one h, has beta itself, and so have the data of
    `validate_on`. Gives (E,).
    """

    def __init__(
        self, *, beta: float = 0.1, weight: float = 0.5, preference: float = 1.0, likelihood: float = 0.25
    ) -> None:
        self.beta, self.weight = beta, weight
        self.preference, self.likelihood = preference, likelihood

    def before_step(self, look: Look) -> dict[str, list[float]]:
        """What beta is multiplied with in the coming step, for each example the same."""
        ahead = look.each(look.window, lambda s: margins.log_ratios(s).margin)
        found = drawn_above(ahead.tolist(), *(one.id for one in look.window), look.step)
        return {SCALE: [1 + self.weight * found] * len(look.window)}

    def __call__(self, s: Scores) -> Loss:
        plain = s.sums("chosen").detach() * 0 + self.beta
        scales = (plain * s.values[SCALE].to(plain.dtype)).clamp_min(LEAST) if SCALE in s.values else plain
        return _loss(s, scales, self.preference, self.likelihood)


def drawn_above(ahead: Sequence[float], *key: str | int) -> float:
    """By how much the mean of a drawn 80% is above that of all; 0 where there is no deviation to draw by.

    >>> drawn_above([0.3], "a"), drawn_above([0.5, 0.5], "a")
    (0.0, 0.0)
    """
    spread = stdev(ahead) if len(ahead) > 1 else 0.0
    if spread == 0:
        return 0.0
    centre, rng = fmean(ahead), seeds.stream("drawn", *key)
    likely = [exp(-(((one - centre) / spread) ** 2) / 2) for one in ahead]
    # The k greatest of u ** (1 / weight) are a draw without replacement (Efraimidis & Spirakis 2006).
    order = sorted(range(len(ahead)), key=lambda at: rng.random() ** (1 / max(likely[at], 1e-9)))
    kept = order[-max(1, int(DRAWN * len(ahead))) :]
    return fmean(ahead[at] for at in kept) - centre


def _loss(s: Scores, scales: Tensor, preference: float, likelihood: float) -> Loss:
    rewards = margins.log_ratios(s).times(scales)
    values = preference * margins.logistic(rewards.margin) - likelihood * s.means("chosen")
    return Loss(values, rewarded(s, rewards) | {"beta": scales})
