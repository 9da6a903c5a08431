"""Emulated fine-tuning: what pre-training taught at one size, and fine-tuning at another, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnsmith.errors import UsageError
from turnsmith.registry import decoder

if TYPE_CHECKING:
    from torch import Tensor


@decoder("emulate", members=("base", "tuned", "untuned"), source="arXiv:2310.12962 sec. 3")
def emulate(
    base: Tensor, tuned: Tensor, untuned: Tensor, *, weight: float = 1.0, top_p: float = 1.0
) -> Tensor:
    """The base's log-probs, plus `weight` times the reward that tuning is equivalent to, log p_tuned -
    log p_untuned, token by token.

    base: pre-trained at the one size; tuned, untuned: at the other, so that tuned small models scale up, and
    large ones down. weight: the paper's beta is absorbed in it; 0 is the base. top_p: below 1, tokens outside
    of the top-p set of `tuned` keep their probability under it, since ratios of small ones are noise (sec. 3,
    as reviews tell it).
    """
    if not 0 < top_p <= 1:
        raise UsageError(f"emulate: top_p is {top_p}: it is a share above 0 and at most 1")
    steered = base.log_softmax(-1) + weight * (tuned.log_softmax(-1) - untuned.log_softmax(-1))
    if top_p == 1:
        return steered
    kept = tuned.log_softmax(-1)
    best, ids = kept.exp().sort(-1, descending=True)
    before = best.cumsum(-1) - best  # the share of those that are more probable
    inside = before.new_zeros(before.shape).scatter(-1, ids, before) < top_p
    return steered.where(inside, kept)


@decoder("trade", members=("base", "one", "other", "untuned"), source="arXiv:2310.12962 sec. 4")
def trade(
    base: Tensor, one: Tensor, other: Tensor, untuned: Tensor, *, share: float = 0.5, weight: float = 1.0
) -> Tensor:
    """Emulated fine-tuning by the rewards of two tunings, `share` of the first and the rest of the second.

    one, other: two tunings of `untuned`. share: the paper's lambda, from 0 to 1; at its ends it is `emulate`
    by one of them. weight: of both rewards together, as of `emulate`.
    """
    rewards = share * one.log_softmax(-1) + (1 - share) * other.log_softmax(-1) - untuned.log_softmax(-1)
    return base.log_softmax(-1) + weight * rewards
