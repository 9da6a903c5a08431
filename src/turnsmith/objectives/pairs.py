"""Objectives over pairs of answers to one prompt."""

from __future__ import annotations

from typing import Literal

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


@objective(
    "spin", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2401.01335 eq. 4.7"
)
def spin(s: Scores, *, beta: float = 0.1, loss: Literal["logistic", "hinge"] = "logistic") -> Loss:
    """Self-play: prefer the data's answer (chosen) to the one that the start of the step wrote (rejected).

    l(beta * (log-ratio of chosen - log-ratio of rejected)), log-ratios against the step's start, which is the
    opponent; l(z) is log(1 + exp(-z)), or max(0, 1 - z) for the hinge. beta: the paper's lambda. Gives (E,).
    """
    made = dpo(s, beta=beta)
    if loss == "logistic":
        return made
    margin = beta * (s.ratio("chosen") - s.ratio("rejected"))
    return Loss((1 - margin).clamp_min(0), made.metrics)
