"""What is wanted of the logits at trained tokens, computed slab by slab: no (D, V) ever exists."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

TAKEN = "taken"  # the logit of the token that came
LOGPROB = "logprob"  # its log-probability


Project = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Other:
    """Another model at the same tokens: its states (D, H'), and what makes logits of them."""

    hidden: Tensor
    project: Project


def reduce(
    hidden: Tensor,
    targets: Tensor,
    project: Project,
    names: Sequence[str],
    *,
    rows: int,
    others: Mapping[str, Other] | None = None,
) -> dict[str, Tensor]:
    """For each name (D,) numbers: what it says of the logits that `project` makes of the states.

    hidden: (D, H). targets: (D,). names: of REDUCTIONS, alone or of the logits divided by a number, as
    `max/0.5`; TAKEN or LOGPROB; or, against one of `others`, `kl:NAME`, `reverse_kl:NAME`, or `jsd/0.5:NAME`
    with the share of the other model in the mixture, half where there is none. rows: how many
    logits are held at once, with as many of every other model; they are computed a second time in the
    backward pass. All but `argmax` carry gradients, none to other models.
    """
    beside = others or {}

    def slab(states: Tensor, wanted: Tensor, *theirs: Tensor) -> tuple[Tensor, ...]:
        logits = project(states)
        with torch.no_grad():
            pairs = zip(beside.items(), theirs, strict=True)
            against = {name: other.project(own) for (name, other), own in pairs}
        return tuple(_one(name, logits, wanted, against) for name in names)

    parts = zip(*(each.split(rows) for each in (hidden, targets, *_hidden(beside))), strict=True)
    slabs = [checkpoint(slab, *part, use_reentrant=False) for part in parts]
    return {name: torch.cat([one[index] for one in slabs]) for index, name in enumerate(names)}


def _hidden(others: Mapping[str, Other]) -> list[Tensor]:
    return [other.hidden for other in others.values()]


def _one(name: str, logits: Tensor, wanted: Tensor, against: Mapping[str, Tensor]) -> Tensor:
    """(d,): one reduction of logits (d, V)."""
    if name in (TAKEN, LOGPROB):
        values = logits if name == TAKEN else logits.log_softmax(1)
        return values.gather(1, wanted[:, None])[:, 0]
    reduction, _, other = name.partition(":")
    reduction, _, number = reduction.partition("/")
    if other:
        options = (float(number),) if number else ()
        return COMPARISONS[reduction](against[other].log_softmax(1), logits.log_softmax(1), *options)
    return REDUCTIONS[reduction](logits / float(number) if number else logits)


def _entropy(logits: Tensor) -> Tensor:
    logprobs = logits.log_softmax(1)
    return -(logprobs.exp() * logprobs).sum(1)


def _collision_entropy(logits: Tensor) -> Tensor:
    return -(2 * logits.log_softmax(1)).logsumexp(1)


def _argmax(logits: Tensor) -> Tensor:
    return logits.argmax(1)


def _logsumexp(logits: Tensor) -> Tensor:
    return logits.logsumexp(1)


def _max(logits: Tensor) -> Tensor:
    return logits.amax(1)


# Of logits (d, V), divided by the temperature, to (d,). entropy: of the distribution, in nats, and
# collision_entropy: minus the log of how probably two tokens drawn from it are the same.
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "entropy": _entropy,
    "collision_entropy": _collision_entropy,
    "argmax": _argmax,
    "logsumexp": _logsumexp,
    "max": _max,
}


def known(name: str) -> bool:
    """Whether it is a reduction, or one of logits divided by a number above 0.

    >>> known("max"), known("max/0.5"), known("max/0"), known("least")
    (True, True, False, False)
    """
    reduction, stroke, divisor = name.partition("/")
    try:
        return reduction in REDUCTIONS and (not stroke or float(divisor) > 0)
    except ValueError:
        return False


def _kl(other: Tensor, own: Tensor) -> Tensor:
    return (other.exp() * (other - own)).sum(1)


def _reverse_kl(other: Tensor, own: Tensor) -> Tensor:
    return _kl(own, other)


def _jsd(other: Tensor, own: Tensor, mix: float = 0.5) -> Tensor:
    middle = torch.logaddexp(other + math.log(mix), own + math.log1p(-mix))
    return mix * _kl(other, middle) + (1 - mix) * _kl(own, middle)


# Of log-probs (d, V) of another model and of this one, in nats: KL(other || this), KL(this || other), and
# mix * KL(other || m) + (1 - mix) * KL(this || m), where m = mix * other + (1 - mix) * this.
COMPARISONS: dict[str, Callable[..., Tensor]] = {"kl": _kl, "reverse_kl": _reverse_kl, "jsd": _jsd}
