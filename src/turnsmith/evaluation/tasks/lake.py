"""How near a policy that was learnt as text is to the optimal one."""

from __future__ import annotations

import torch

from turnsmith.errors import UsageError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.likelihoods import likelihoods
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.stages.lake import SQUARES, ended, made, policy
from turnsmith.types import Conversation, Message


@task("lake", source="arXiv:2405.11870 sec. 5")
class FrozenLake:
    """Squared differences between the transitions of the model and of the optimal policy, square by square.

    The model's are what it finds likely behind the letter of a square alone, among the 16 letters. The
    optimal policy takes equally good steps equally often. Holes and the goal, from which nobody goes on, are
    left out. discount: of the rewards to come, in the value iteration that gives the optimal policy. Raises
    UsageError unless it is above 0 and below 1.
    """

    title = "Distance to the optimal policy on the frozen lake"
    note = (
        "Mean squared difference between two transition matrices, that of the model and that of the optimal "
        "policy, over the 11 squares from which a walk goes on and the 16 squares that it may go on to."
    )
    metrics = (
        Metric(
            "distance to the optimal policy", "squared", "mean squared error", "lower", "entries", "squares"
        ),
    )

    def __init__(self, *, discount: float = 0.95) -> None:
        if not 0 < discount < 1:
            raise UsageError(
                f"lake: discount is {discount}, and has to be between 0 and 1: at 1 no way is short"
            )
        self.discount = discount

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        lake = made()
        best, ends = policy(lake, discount=self.discount), ended(lake)
        starts = [square for square, end in zip(SQUARES, ends, strict=True) if not end]
        found = likelihoods(subject, {start: [_step(start, to) for to in SQUARES] for start in starts})
        items = []
        for start in starts:
            steps = torch.tensor(found[start], dtype=torch.float64).softmax(0)
            wanted = torch.from_numpy(best[SQUARES.index(start)])
            values = {"squared": float(((steps - wanted) ** 2).sum()), "entries": float(len(SQUARES))}
            shown = {to: round(p, 4) for to, p in zip(SQUARES, steps.tolist(), strict=True)}
            items.append(Item(start, "", values, {"steps": shown}))
        return items


def _step(start: str, to: str) -> Conversation:
    return Conversation((Message("text", start, weight=0.0), Message("text", to)))
