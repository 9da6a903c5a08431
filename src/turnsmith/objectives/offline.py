"""Objectives that learn from dialogues with an outcome which policy is better than those that held them."""

from __future__ import annotations

import torch
from torch import Tensor

from turnsmith.registry import objective
from turnsmith.types import Loss, Scores


@objective(
    "ilql",
    per="token",
    needs=("q1:logsumexp/{cql_temperature}", "q2:logsumexp/{cql_temperature}"),
    heads={"v": ("mlp", 1), "q1": ("mlp", "vocab"), "q2": ("mlp", "vocab")},
    targets={"q1": "follow", "q2": "follow"},
    values=("reward",),
    source="arXiv:2206.11871 sec. 4, and its code",
)
def ilql(
    s: Scores,
    *,
    discount: float = 0.99,
    expectile: float = 0.7,
    follow: float = 0.005,
    v_weight: float = 1.0,
    q_weight: float = 1.0,
    cql_weight: float = 1e-4,
    cql_temperature: float = 1.0,
    bc_weight: float = 1.0,
    beta: float = 0.0,
) -> Loss:
    """Implicit Q-learning on tokens: how well a dialogue ends is led back to the tokens that led there.

    An action is a trained token, its state what stands before it; what others say lies between two actions.
    The example's value `reward` comes with its last action, behind which nothing is worth anything. At each
    action a, with Q the lesser of the two copies:
    V is drawn to the upper `expectile` (tau) of Q(a); both Q(a) to the reward and `discount` (gamma) times V
    before the next action; `cql_weight` times the cross-entropy of softmax(Q / cql_temperature) with a keeps
    down what nobody said; `bc_weight` times the negative log-likelihood of a, times exp(beta (Q(a) - V)),
    makes the policy that the decoder `advantage` then bends. follow: how much of the way the copies of the
    heads go after each step. All share one body; the paper's code can hold copies of it too.
    Gives (N,). A dialogue that was cut has lost its end, so leave out what is too long (`over: drop`).
    Raises ValueError unless discount is from 0 to 1, expectile between 0 and 1, and cql_temperature above 0.
    """
    if not (0 <= discount <= 1 and 0 < expectile < 1 and cql_temperature > 0):
        raise ValueError(
            f"ilql: discount {discount} has to be from 0 to 1, expectile {expectile} between 0 and 1, and "
            f"cql_temperature {cql_temperature} above 0"
        )
    v = s.heads["v"]
    taken = torch.minimum(s.heads["q1_target"], s.heads["q2_target"])
    ahead = backed_up(v.detach(), s.values["reward"], s, discount=discount)
    fit_v = asymmetric(taken - v, expectile=expectile)
    fit_q, unsaid = torch.zeros_like(v), torch.zeros_like(v)
    for name in ("q1", "q2"):
        fit_q = fit_q + (ahead - s.heads[name]) ** 2
        unsaid = unsaid + s.reduced[f"{name}:logsumexp/{cql_temperature}"] - s.heads[name] / cql_temperature
    advantage = (taken - v).detach()
    said = -s.logprobs * (beta * advantage).exp()
    metrics = {"v": v, "q": taken, "advantage": advantage, "td": fit_q, "cql": unsaid, "nats": -s.logprobs}
    values = v_weight * fit_v + q_weight * fit_q + cql_weight * unsaid + bc_weight * said
    return Loss(values, metrics)


def asymmetric(gap: Tensor, *, expectile: float) -> Tensor:
    """Squares of the gaps, those above 0 times `expectile`, those below times 1 - expectile: least in the
    mean where gaps to values are taken from their expectile. Source: arXiv:2110.06169 eq. 4.

    >>> asymmetric(torch.tensor([2.0, -2.0]), expectile=0.75)
    tensor([3., 1.])
    """
    return (expectile - (gap < 0).to(gap.dtype)).abs() * gap**2


def backed_up(v: Tensor, reward: Tensor, s: Scores, *, discount: float) -> Tensor:
    """(N,): at each trained token `discount` times v (N,) at the next one of its path, and at the last one of
    a path the reward (E,) of its example."""
    last = torch.ones_like(s.path, dtype=torch.bool)
    last[:-1] = s.path[1:] != s.path[:-1]
    return torch.where(last, reward.to(v.dtype)[s.owners], discount * v.roll(-1))
