"""Objectives over pairs of answers to one prompt."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from turnsmith.registry import objective
from turnsmith.types import Loss, Scores

CERTAIN = 1e-6  # nats per token: above it the odds are infinite in fp32


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
    return Loss(-F.logsigmoid(margin), metrics)


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


@objective(
    "refuel",
    per="example",
    parts=("first", "second"),
    reference=True,
    values=("return_first", "return_second"),
    source="arXiv:2410.04612 alg. 1",
)
def refuel(s: Scores, *, eta: float = 1.0) -> Loss:
    """Regress the difference of two answers' log-ratios on the difference of the rewards that followed them.

    (log-ratio of first - log-ratio of second - eta * (return_first - return_second)) ** 2, log-ratios against
    the step's start, which sampled both, at the temperature that the logits are divided by (`fit`). On one
    prompt the minimiser is start * exp(eta * expected return), normalised. eta: how far a step goes, in nats
    for each unit of reward. Gives (E,). The order of the two does not matter.
    """
    gap = s.ratio("first") - s.ratio("second")
    target = eta * (s.values["return_first"] - s.values["return_second"])
    metrics = {"agreement": (gap * target > 0).float(), "gap": gap, "target": target}
    return Loss((gap - target) ** 2, metrics)


@objective(
    "ipo", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2310.12036 eq. 17"
)
def ipo(s: Scores, *, target: float = 10.0) -> Loss:
    """Bring the margin between the log-ratios of the chosen and the rejected answer to a target, not beyond.

    (log-ratio of chosen - log-ratio of rejected - target)^2, log-ratios against the step's start, summed over
    trained tokens. target: the paper's 1 / (2 tau), tau being how much is paid for what the policy differs
    from its start; code of arXiv:2404.14367 calls the target itself beta, and its bandit has 10, which is a
    tau of 0.05. Gives (E,).
    """
    margin = s.ratio("chosen") - s.ratio("rejected")
    metrics = {"accuracy": (margin > 0).float(), "margin": margin}
    return Loss((margin - target) ** 2, metrics)


@objective("orpo", per="example", parts=("chosen", "rejected"), source="arXiv:2403.07691 eq. 6, 7")
def orpo(s: Scores, *, weight: float = 0.1) -> Loss:
    """Likelihood of the chosen answer, and the log of how much its odds are above those of the rejected one.

    -m + weight * -log sigmoid(log odds(chosen) - log odds(rejected)), where m is the mean log-prob of the
    chosen answer's tokens, and log odds of an answer are m - log(1 - exp(m)), with its own mean. weight: the
    paper's lambda. Needs no reference. Gives (E,). An answer of which every token is certain counts as one of
    1e-6 nats a token.
    """
    chosen, rejected = s.means("chosen"), s.means("rejected")
    ratio = _log_odds(chosen) - _log_odds(rejected)
    metrics = {"accuracy": (ratio > 0).float(), "log_odds_ratio": ratio, "nats_chosen": -chosen}
    values = -chosen - weight * F.logsigmoid(ratio)
    return Loss(values, metrics)


def _log_odds(mean: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = exp(mean), exact for small means too."""
    mean = mean.clamp_max(-CERTAIN)
    return mean - (-mean.expm1()).log()
