"""An objective of models that write what they think of an answer before they judge it."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from turnsmith.registry import objective
from turnsmith.types import Loss, Scores


@objective(
    "critique",
    per="example",
    parts=("chosen", "rejected"),
    values=("tied", "critiqued"),
    heads={"reward": ("last", 1)},
    source="arXiv:2502.10391 sec. 3 (MM-RLHF-Reward)",
)
def critique(
    s: Scores, *, ranking: float = 1.0, tie: float = 1.0, centre: float = 0.01, language: float = 1.0
) -> Loss:
    """A number for each answer, as of `reward`, behind a critique of it that the model learns to write.

    With r the head's numbers at the last token, which is that of the critique where there is one: ranking *
    -log sigmoid(r_chosen - r_rejected) of a pair that is not tied, tie * (r_chosen - r_rejected)^2 of one
    that is, plus centre * (r_chosen + r_rejected)^2, plus language * the mean negative log-prob of each
    critique's tokens. The values `tied` and `critiqued`, 0 or 1, say which pairs are tied and which have
    critiques, as the stage `critiqued` leaves them; let what is said last alone learn (`train_on: last`).
    ranking, tie, centre, language: the paper's code's score weight, tie weight, centring coefficient and
    critic weight. Gives (E,). The scorer `critic` has the critique written and reads the number.
    """
    chosen, rejected = (s.of(part, s.heads["reward"]) for part in ("chosen", "rejected"))
    margin, tied = chosen - rejected, s.values["tied"] > 0
    order = torch.where(tied, tie * margin**2, -ranking * F.logsigmoid(margin))
    critiqued = s.values["critiqued"] > 0
    said = -(s.means("chosen") + s.means("rejected"))
    words = torch.where(critiqued, said, torch.zeros_like(said))
    values = order + centre * (chosen + rejected) ** 2 + language * words
    accuracy = torch.where(tied, torch.full_like(margin, 0.5), (margin > 0).to(margin.dtype))
    metrics = {"accuracy": accuracy, "margin": margin, "nats_critique": words / 2}
    return Loss(values, metrics)
