"""What is wanted of the logits at trained tokens, computed slab by slab: no (D, V) ever exists."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

TAKEN = "taken"  # the logit of the token that came
LOGPROB = "logprob"  # its log-probability


def reduce(
    hidden: Tensor, targets: Tensor, project: Callable[[Tensor], Tensor], names: Sequence[str], *, rows: int
) -> dict[str, Tensor]:
    """For each name (D,) numbers: what it says of the logits that `project` makes of the states.

    hidden: (D, H). targets: (D,). names: of REDUCTIONS, TAKEN or LOGPROB. rows: how many logits are held at
    once; they are computed a second time in the backward pass. All but `argmax` carry gradients.
    """

    def slab(states: Tensor, wanted: Tensor) -> tuple[Tensor, ...]:
        logits = project(states)
        own = {TAKEN: lambda: logits, LOGPROB: lambda: logits.log_softmax(1)}
        return tuple(
            own[name]().gather(1, wanted[:, None])[:, 0] if name in own else REDUCTIONS[name](logits)
            for name in names
        )

    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    slabs = [checkpoint(slab, states, wanted, use_reentrant=False) for states, wanted in parts]
    return {name: torch.cat([one[index] for one in slabs]) for index, name in enumerate(names)}


def _entropy(logits: Tensor) -> Tensor:
    logprobs = logits.log_softmax(1)
    return -(logprobs.exp() * logprobs).sum(1)


def _argmax(logits: Tensor) -> Tensor:
    return logits.argmax(1)


def _logsumexp(logits: Tensor) -> Tensor:
    return logits.logsumexp(1)


def _max(logits: Tensor) -> Tensor:
    return logits.amax(1)


# Of logits (d, V), divided by the temperature, to (d,). entropy: of the distribution, in nats.
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "entropy": _entropy,
    "argmax": _argmax,
    "logsumexp": _logsumexp,
    "max": _max,
}
