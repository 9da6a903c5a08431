"""Objectives of models that judge answers."""

from __future__ import annotations

from torch.nn import functional as F

from turnsmith.registry import objective
from turnsmith.types import Loss, Scores


@objective(
    "reward",
    per="example",
    parts=("chosen", "rejected"),
    heads={"reward": ("last", 1)},
    words=False,
    source="arXiv:2203.02155 eq. 1",
)
def reward(s: Scores) -> Loss:
    """A number for each answer, from the state of its last token, higher for the chosen one than for the
    rejected.

    -log sigmoid(r_chosen - r_rejected). Gives (E,); log 2 for equal texts. The scorer `reward_model` reads
    the numbers. Their origin is arbitrary: only differences between answers mean something.
    """
    chosen, rejected = (s.of(part, s.heads["reward"]) for part in ("chosen", "rejected"))
    margin = chosen - rejected
    metrics = {"accuracy": (margin > 0).float(), "margin": margin}
    return Loss(-F.logsigmoid(margin), metrics)
