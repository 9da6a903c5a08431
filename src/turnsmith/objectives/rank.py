"""Objectives of models that judge answers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from turnsmith.errors import UsageError
from turnsmith.objectives.samples import rows
from turnsmith.registry import objective
from turnsmith.types import Loss, Run, Scores

PAIR = ("chosen", "rejected")
MARGIN = "margin"  # the value that says by how much the chosen answer of an example is better


@objective(
    "reward",
    per="example",
    parts=("chosen", "rejected"),
    heads={"reward": ("last", 1)},
    words=False,
    source="arXiv:2203.02155 eq. 1",
)
def reward(s: Scores, *, margin: float = 0.0, centre: float = 0.0) -> Loss:
    """A number for each answer, from the state of its last token, higher for the chosen one than for the
    rejected.

    -log sigmoid(r_chosen - r_rejected - margin * m) + centre * (r_chosen + r_rejected)^2. margin: how far
    apart an example's value `margin`, m, by how much the chosen answer is better, asks the numbers to be
    (arXiv:2307.09288 eq. 2); 0 does without. centre: draws the numbers of a pair to lie around 0
    (arXiv:2312.09244, which has 0.01); without it their origin is arbitrary, and only differences between
    answers mean something. Gives (E,); log 2 for equal texts. The scorer `reward_model` reads the numbers.
    Raises UsageError where a margin is asked for and examples have none.
    """
    chosen, rejected = (s.of(part, s.heads["reward"]) for part in ("chosen", "rejected"))
    apart = chosen - rejected
    metrics = {"accuracy": (apart > 0).float(), "margin": apart}
    if margin and MARGIN not in s.values:
        raise UsageError(
            f"reward: margin is {margin}, and the examples have no value {MARGIN!r} for it to count"
        )
    lacking = apart - margin * s.values[MARGIN].to(apart.dtype) if margin else apart
    return Loss(centre * (chosen + rejected) ** 2 - F.logsigmoid(lacking), metrics)


@objective(
    "token_reward",
    per="example",
    parts=("chosen", "rejected"),
    heads={"reward": ("own", 1)},
    forward=True,
    words=False,
    source="arXiv:2308.03549; SupritYoung/Zhongjing, src/llmtuner/tuner/rm/trainer.py",
)
def token_reward(run: Run) -> Loss:
    """`reward` at every token: from where two answers part, the chosen one is worth more at each place.

    The mean of -log sigmoid(v_chosen - v_rejected) over the places from the first at which their tokens
    differ to the end of the longer one, v from the state of the token there. Behind its end an answer has the
    number of its last token; in the published code it is that of padding. Of equal texts the last token alone
    counts: log 2. Places that no token learns at are left out; what stands before the first difference gets
    no gradient. Gives (E,). The scorer `reward_model` reads the number at the last token.
    """
    s = run()
    values, learns = _laid(run, s)
    chosen, rejected = ([at for at, one in enumerate(s.paths) if one.part == part] for part in PAIR)
    ids = run.rows()
    parted = (ids[chosen] != ids[rejected]).long().cummax(1).values.bool()
    counted = (learns[chosen] | learns[rejected]) & parted
    ends = _last(learns[chosen] | learns[rejected])
    counted = torch.where(counted.any(1, keepdim=True), counted, ends)
    margin = values[chosen] - values[rejected]
    losses = torch.where(counted, -F.logsigmoid(margin), 0.0).sum(1) / counted.sum(1).clamp_min(1)
    last = margin[:, -1]
    return Loss(losses, {"accuracy": (last > 0).float(), "margin": last})


def _laid(run: Run, s: Scores) -> tuple[Tensor, Tensor]:
    """(P, T) of each path: the number at each place, or that of the last token before it that learns, and
    whether a token learns there."""
    ids = run.rows()
    learns = torch.zeros_like(ids, dtype=torch.bool).index_put((s.path, run.position), s.weights > 0)
    numbers = s.heads["reward"]
    table = numbers.new_zeros(ids.shape).index_put((s.path, run.position), numbers)
    places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    known = torch.where(learns, places, -1).cummax(1).values
    return table.gather(1, known.clamp_min(0)), learns


def _last(learns: Tensor) -> Tensor:
    """(E, T): the last place of each row that is true, alone."""
    return learns & (learns.flip(1).cumsum(1).flip(1) == 1)


@objective(
    "ranking",
    per="example",
    parts=("replies",),
    values=("rank",),
    heads={"reward": ("last", 1)},
    words=False,
    source="LAION-AI/Open-Assistant, model_training/utils/losses.py (RMLoss)",
)
def ranking(s: Scores, *, beta: float = 0.001) -> Loss:
    """A number for each of several answers to a prompt, as of `reward`, the higher the better its rank.

    Examples have the part `replies` and a value `rank` of as many numbers, lower for what is better. The mean
    over all pairs of different rank, i the better one, of -log sigmoid(r_i - r_j) + beta (r_i^2 + r_j^2) / 2:
    beta holds the numbers near 0, which their differences leave open. Gives (E,); 0 for an example without a
    pair, e.g. with one reply, which teaches nothing. Metrics: `accuracy`, 1 where the best reply is above the
    worst, and Kendall's tau over the pairs, a tie of two numbers counting 0.
    """
    numbers, rank, owner = s.of("replies", s.heads["reward"]), s.values["rank"], s.owner("replies")
    better, worse = pairs(-rank, owner)
    of, margin = owner[better], numbers[better] - numbers[worse]
    size = (numbers[better] ** 2 + numbers[worse] ** 2) / 2
    count = s.per_example(of, torch.ones_like(margin)).clamp_min(1)
    metrics = {
        "accuracy": _ends(s, numbers, rank),
        "kendall": s.per_example(of, margin.sign()) / count,
    }
    return Loss(s.per_example(of, beta * size - F.logsigmoid(margin)) / count, metrics)


def pairs(level: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Places of the higher and of the lower one of all pairs of different levels that one example has."""
    ahead = (owner[:, None] == owner[None]) & (level[:, None] > level[None])
    above, below = ahead.nonzero(as_tuple=True)
    return above, below


def _ends(s: Scores, numbers: Tensor, rank: Tensor) -> Tensor:
    """(E,): 1 where the first reply of the best rank is above the first one of the worst, else 0."""
    best = rows(s, rank, torch.inf).argmin(1, keepdim=True)
    worst = rows(s, rank, -torch.inf).argmax(1, keepdim=True)
    said = rows(s, numbers, 0.0)
    return (said.gather(1, best) > said.gather(1, worst))[:, 0].to(numbers.dtype)
