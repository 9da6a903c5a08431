"""Objectives of models that judge how well a reply fits what was said before: levels that are ranked, and
ratings of people.

The model's score of a reply is s = sigmoid(head), from 0 to 1, on a read-out of the path: the mean of the
states of the reply's tokens, or that of the first or last token. The paper reads BERT's first token through
its pooler, a layer of its own, which is left out here. The scorer `rating` reads the scores.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from turnsmith.errors import DataError
from turnsmith.objectives.rank import pairs
from turnsmith.registry import objective
from turnsmith.types import Loss, Scores

HEAD = "rating"
LEVEL, SCORE = "level", "score"  # values of examples
LEAST, MOST = 1.0, 5.0  # of people's ratings


@objective(
    "levels",
    per="example",
    parts=("replies",),
    values=("level",),
    heads={"rating": ("{read}", "narrow", 1)},
    words=False,
    source="James-Yip/QuantiDCE, trainer/trainer_mlr_pretrain.py (MLR)",
)
def levels(
    s: Scores,
    *,
    separation: float = 0.3,
    compactness: float = 0.1,
    read: Literal["first", "last", "mean"] = "mean",
) -> Loss:
    """Multi-level ranking: replies to one context of several levels, whose mean scores lie apart in order.

    Each example has a part `replies` and a value `level` of as many numbers, higher for what fits better.
    With c_l the mean score of the replies of level l, summed over pairs of levels a > b, and over levels:
    separation: relu((a - b) * separation - |c_a - c_b|); the paper's lambda; compactness: relu(mean of
    |s - c_l| - compactness); the paper's mu; ordering: relu(c_b - c_a). Separation is the same for a wrong
    order, which only ordering tells. A level has as many replies as there are, and one without any has no
    term. Gives (E,).
    """
    scores = _scores(s, "replies")
    found = _centres(s, scores)
    own = (scores - found.mean[found.of]).abs()
    spread = own.new_zeros(len(found.mean)).index_add(0, found.of, own) / found.replies
    above, below = found.pairs()
    gap = found.mean[above] - found.mean[below]
    far = separation * (found.level[above] - found.level[below])
    terms = {
        "separation": s.per_example(found.owner[above], F.relu(far - gap.abs())),
        "compactness": s.per_example(found.owner, F.relu(spread - compactness)),
        "ordering": s.per_example(found.owner[above], F.relu(-gap)),
    }
    metrics = {
        **terms,
        "in order": 1 - s.per_example(found.owner[above], (gap <= 0).to(gap.dtype)).clamp(max=1),
    }
    return Loss(sum(terms.values(), start=gap.new_zeros(s.examples)), metrics)


@objective(
    "levels_apart",
    per="example",
    parts=("replies",),
    values=("level",),
    heads={"rating": ("{read}", "narrow", 1)},
    words=False,
    source="QuantiDCE 2021, margin ranking among its comparisons",
)
def levels_apart(s: Scores, *, margin: float = 0.3, read: Literal["first", "last", "mean"] = "mean") -> Loss:
    """Margin ranking of every reply above every one of a lower level: the mean of relu(margin - (s_a - s_b)).

    Data as of `levels`. Gives (E,); 0 for an example of one level.
    """
    scores, level, owner = _scores(s, "replies"), s.values[LEVEL], s.owner("replies")
    above, below = pairs(level, owner)
    lost = s.per_example(owner[above], F.relu(margin - (scores[above] - scores[below])))
    count = s.per_example(owner[above], torch.ones_like(scores)[above]).clamp_min(1)
    return Loss(lost / count)


@objective(
    "coherent",
    per="example",
    parts=("replies",),
    values=("level",),
    heads={"rating": ("{read}", "narrow", 1)},
    words=False,
    source="QuantiDCE 2021, binary cross-entropy among its comparisons",
)
def coherent(s: Scores, *, least: float = 3.0, read: Literal["first", "last", "mean"] = "mean") -> Loss:
    """Binary cross-entropy of each reply, a mean over the example's: coherent from the level `least` on.

    Data as of `levels`; what lies between the levels is not taught. Gives (E,).
    """
    logits, owner = s.of("replies", s.heads[HEAD]), s.owner("replies")
    truth = (s.values[LEVEL] >= least).to(logits.dtype)
    lost = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    right = ((logits > 0) == (truth > 0)).to(logits.dtype)
    return Loss(_mean(s, owner, lost), {"accuracy": _mean(s, owner, right)})


@objective(
    "rated",
    per="example",
    values=("score",),
    heads={"rating": ("{read}", "narrow", 1)},
    words=False,
    source="James-Yip/QuantiDCE, trainer/trainer_kd_finetune.py, without distillation",
)
def rated(s: Scores, *, read: Literal["first", "last", "mean"] = "mean") -> Loss:
    """Squared error of 1 + 4 s against the value `score`, a person's rating from 1 to 5. Gives (E,).

    Raises DataError where a rating lies outside of 1 to 5.
    """
    lost = _error(s)
    return Loss(lost, {"error": lost.sqrt()})


@objective(
    "rated_near",
    per="example",
    values=("score",),
    heads={"rating": ("{read}", "narrow", 1)},
    needs=("states:start", "attention:start", "heads:start"),
    words=False,
    source="James-Yip/QuantiDCE, trainer/trainer_kd_finetune.py (KD-MSE)",
)
def rated_near(
    s: Scores,
    *,
    alpha: float = 1.0,
    beta: float = 5.0,
    read: Literal["first", "last", "mean"] = "mean",
) -> Loss:
    """`rated`, held near another model, which the step's `others: {start: NAME}` names: what it started from.

    alpha * (1 + 4 s - score)^2 + beta * (states + attention + (s - s_start)^2): mean squared differences of
    all hidden states, the embeddings' too, and of all attention, each summed over layers
    (`models/layers.py`), and that of the scores. The other model learns nothing and has no dropout. At the
    first step all three are 0 but for the dropout of the one that learns. Gives (E,). Raises DataError as
    `rated`.
    """
    lost, before = _error(s), s.of("text", s.others["start"][HEAD].sigmoid())
    states, attention = (s.of("text", s.apart[f"{kind}:start"]) for kind in ("states", "attention"))
    said = (_scores(s, "text") - before) ** 2
    kept = {"states": states, "attention": attention, "scores": said}
    values = alpha * lost + beta * (states + attention + said)
    return Loss(values, {"error": lost.sqrt(), **kept})


def rating(heads: Tensor) -> Tensor:
    """What a head says on the scale of people: 1 + 4 sigmoid, from 1 to 5.

    >>> rating(torch.tensor([-torch.inf, 0.0, torch.inf]))
    tensor([1., 3., 5.])
    """
    return LEAST + (MOST - LEAST) * heads.sigmoid()


# ------------------------------------------------------------------------------------------ pieces


class _Centres(NamedTuple):
    """Levels of examples, G of them in all. mean, level, owner, replies: (G,), of their scores, which it is,
    the example, and how many. of: (S,), the level of each reply."""

    mean: Tensor
    level: Tensor
    owner: Tensor
    replies: Tensor
    of: Tensor

    def pairs(self) -> tuple[Tensor, Tensor]:
        """The higher and the lower one of all pairs of levels of one example."""
        return pairs(self.level, self.owner)


def _centres(s: Scores, scores: Tensor) -> _Centres:
    named = torch.stack([s.owner("replies").to(scores.dtype), s.values[LEVEL].to(scores.dtype)], 1)
    groups, of, count = named.unique(dim=0, return_inverse=True, return_counts=True)
    mean = scores.new_zeros(len(groups)).index_add(0, of, scores) / count
    return _Centres(mean, groups[:, 1], groups[:, 0].long(), count, of)


def _scores(s: Scores, part: str) -> Tensor:
    return s.of(part, s.heads[HEAD]).sigmoid()


def _error(s: Scores) -> Tensor:
    """(E,): squared errors on the scale of people."""
    wanted = s.values[SCORE]
    if bool(((wanted < LEAST) | (wanted > MOST)).any()):
        wrong = wanted[(wanted < LEAST) | (wanted > MOST)]
        raise DataError(
            f"a rating of {float(wrong[0]):g} lies outside of {LEAST:g} to {MOST:g}, the scale on which the "
            "score is read: bring the value `score` onto it"
        )
    found = s.of("text", rating(s.heads[HEAD]))
    return (found - wanted.to(found.dtype)) ** 2


def _mean(s: Scores, owner: Tensor, values: Tensor) -> Tensor:
    return s.per_example(owner, values) / owner.bincount(minlength=s.examples)
