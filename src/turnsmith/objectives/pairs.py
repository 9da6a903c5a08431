"""Objectives over pairs of answers to one prompt."""

from __future__ import annotations

from torch.nn import functional as F

from turnsmith.registry import objective
from turnsmith.types import Loss, Scores


@objective(
    "dpo", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2305.18290 eq. 7"
)
def dpo(s: Scores, *, beta: float = 0.1) -> Loss:
    """Logistic loss on the scaled margin between the log-ratios of the chosen and the rejected answer.

    -log sigmoid(beta * (log-ratio of chosen - log-ratio of rejected)), log-ratios against the step's start,
    summed over trained tokens. Gives (E,); log 2 where policy and reference are the same.
    """
    chosen, rejected = s.ratio("chosen"), s.ratio("rejected")
    margin = beta * (chosen - rejected)
    metrics = {"accuracy": (margin > 0).float(), "margin": margin, "reward_chosen": beta * chosen}
    return Loss(-F.logsigmoid(margin), {name: value.detach() for name, value in metrics.items()})
