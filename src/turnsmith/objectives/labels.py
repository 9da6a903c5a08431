"""Classification by label words: a class is as likely as its words are behind the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from turnsmith.errors import DataError, UsageError
from turnsmith.objectives.likelihood import WEIGHT
from turnsmith.registry import objective
from turnsmith.types import Look, Loss, Scores

TINY = 1e-6  # of LiST's code: the sum of weights may be 0


@objective("verbalised", per="example", parts=("labels",), source="arXiv:2110.06274 sec. 2; arXiv:2001.07676")
def verbalised(s: Scores, *, words: Literal["sum", "mean"] = "sum") -> Loss:
    """KL(q || p) over the classes of each example: p of a class is how likely its label words are.

    Each example has a part `labels` of C conversations, one prompt with each class's words, and a value
    `target` of C numbers, q, that sum to 1; as the stages `labelled` and `pseudo_labelled` make them. p is
    the softmax over the C log-probs of the words. words: of several tokens, their `sum`, the log-prob of the
    words as a whole, or their `mean`, which does not disfavour long ones. Where q is 1 for one class this is
    the cross-entropy. Gives (E,) in nats; where p = q it is 0, and so is its gradient.
    """
    if "target" not in s.values:
        raise DataError("verbalised: examples need a value `target`, made by the stage `labelled`")
    owners = s.owner("labels")
    scores = s.sums("labels") if words == "sum" else s.means("labels")
    target = s.values["target"].to(scores.dtype)
    logprobs = log_shares(scores, owners, s.examples)
    apart = torch.xlogy(target, target) - target * logprobs
    values = s.per_example(owners, apart)
    with torch.no_grad():
        right = _first_of_best(logprobs, owners, s.examples) == _first_of_best(target, owners, s.examples)
    return Loss(values, {"accuracy": right.to(values.dtype)})


@objective(
    "reweighted", per="example", parts=("labels",), beside=("labelled",), source="arXiv:2110.06274 sec. 3.3"
)
class Reweighted:
    """`verbalised` on pseudo-labels, of which those count whose gradients agree with that of true labels.

    The step's `beside: {labelled: NAME}` says which data have true labels. A look ahead at each step's
    examples u, without dropout: w_u = max(0, lr <grad of the loss on `batch` labelled examples, grad of l_u>)
    over what learns, which is -d/d epsilon_u at 0 of the labelled loss after a step of plain gradient descent
    along sum of epsilon_u l_u; then w_u / (sum of w + 1e-6). Where no gradient agrees, all w are 0 and the
    step does nothing. after: before this share of the steps all count alike. words: as of `verbalised`.
    Gives (E,): of E examples in a step each counts E w_u, so that the step's loss is sum of w_u l_u. Data of
    `validate_on`, which no step has weighed, count alike.
    """

    def __init__(self, *, after: float = 0.6, batch: int = 4, words: Literal["sum", "mean"] = "sum") -> None:
        if not 0 <= after <= 1 or batch < 1:
            raise UsageError(
                f"reweighted: after is {after} and batch {batch}: 0 <= after <= 1 and batch >= 1"
            )
        self.after, self.batch = after, batch
        self.words: Literal["sum", "mean"] = words

    def before_step(self, look: Look) -> dict[str, list[float]]:
        """How much each example of the coming step counts."""
        count = len(look.window)
        if look.step < self.after * look.total:
            return {WEIGHT: [1.0] * count}
        wanted = look.gradient(look.beside("labelled", self.batch))
        found = [look.lr * agreement(wanted, look.gradient([one])) for one in look.window]
        return {WEIGHT: [count * weight for weight in normalised(found)]}

    def __call__(self, s: Scores) -> Loss:
        loss = verbalised(s, words=self.words)
        weights = s.values.get(WEIGHT, torch.ones_like(loss.values)).to(loss.values.dtype)
        return Loss(weights * loss.values, loss.metrics)


def log_shares(scores: Tensor, owners: Tensor, examples: int) -> Tensor:
    """(S,): the log-softmax of scores (S,) over those of each example. owners: (S,).

    >>> log_shares(torch.tensor([0.0, 0.0, 5.0]), torch.tensor([0, 0, 1]), 2).exp()
    tensor([0.5000, 0.5000, 1.0000])
    """
    top = scores.new_full((examples,), -torch.inf).scatter_reduce(0, owners, scores.detach(), "amax")
    above = scores - top[owners]
    return above - scores.new_zeros(examples).index_add(0, owners, above.exp()).log()[owners]


def agreement(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The inner product of two gradients, given parameter by parameter."""
    products = [(a.double() * b.double()).sum() for a, b in zip(one, other, strict=True)]
    return float(torch.stack(products).sum())


def normalised(agreements: Sequence[float]) -> list[float]:
    """What is above 0, by the sum of it; all 0 where nothing is.

    >>> [round(weight, 3) for weight in normalised([3.0, -2.0, 1.0])], normalised([-1.0, 0.0])
    ([0.75, 0.0, 0.25], [0.0, 0.0])
    """
    above = [max(0.0, one) for one in agreements]
    return [one / (sum(above) + TINY) for one in above]


def _first_of_best(values: Tensor, owners: Tensor, examples: int) -> Tensor:
    """(E,): which of each example's values (S,) is the greatest; of equal ones the first."""
    top = values.new_full((examples,), -torch.inf).scatter_reduce(0, owners, values, "amax")
    places = torch.arange(len(values), device=values.device)
    others = places.new_full((), len(values))
    at = torch.where(values == top[owners], places, others)
    return places.new_full((examples,), len(values)).scatter_reduce(0, owners, at, "amin")
