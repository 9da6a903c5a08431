"""From states to log-probs of the tokens that came: logits exist for a slab of tokens at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from turnsmith.models.reduce import LOGPROB, reduce

SLAB = 96 * 2**20  # bytes of fp32 logits that are held at once
IN_CACHE = 32  # tokens of a slab whose softmax is computed together: their logits stay in a core's cache


def logprobs(
    hidden: Tensor,
    targets: Tensor,
    head: nn.Module,
    *,
    cap: float | None = None,
    temperature: float = 1.0,
    expected: Tensor | None = None,
) -> Tensor:
    """(D,) fp32 log-probabilities of `targets` (D,) from the states `hidden` (D, H) that predict them.

    cap: bound of the logits, cap * tanh(logits / cap). temperature divides them. expected: (D,), what the
    loss will hand back, as far as it can be known before, up to a factor: then a linear head that learns gets
    its gradient in the same pass. Where it turns out otherwise, the logits are computed a second time.
    """
    count = rows(len(weight_of(head)))
    learns = any(p.requires_grad for p in head.parameters())
    if isinstance(head, nn.Linear) and (expected is not None or not learns):
        terms = _Terms(cap, temperature, count, _arithmetic(hidden))
        return _Linear.apply(hidden, head.weight, head.bias, targets, expected, terms)

    def project(states: Tensor) -> Tensor:
        return logits(states, head, cap) / temperature

    return reduce(hidden, targets, project, (LOGPROB,), rows=count)[LOGPROB]


def rows(vocabulary: int) -> int:
    """How many tokens' logits are held at once."""
    return max(1, SLAB // (4 * vocabulary))


def logits(hidden: Tensor, head: nn.Module, cap: float | None) -> Tensor:
    """(D, V) fp32; for a slab, never for all tokens."""
    return _capped(wide(head(hidden)), cap)


def weight_of(head: nn.Module) -> Tensor:
    """(V, H)."""
    found = head.weight
    assert isinstance(found, Tensor)
    return found


def wide(values: Tensor) -> Tensor:
    """In fp32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _capped(values: Tensor, cap: float | None) -> Tensor:
    return values if cap is None else cap * torch.tanh(values / cap)


def _arithmetic(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


@dataclass(frozen=True, slots=True)
class _Terms:
    """What is done to logits, how many rows of them are held, and in what arithmetic they are made."""

    cap: float | None
    temperature: float
    rows: int
    dtype: torch.dtype

    def slabs(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """For each slab: where it is, its states, the log-probs (d,) and their gradient (d, V) with respect
        to the raw logits, in whose place it is."""
        for start in range(0, len(hidden), self.rows):
            part = slice(start, start + self.rows)
            states = hidden[part].to(self.dtype)
            raw = F.linear(states, weight, bias)
            pairs = zip(raw.split(IN_CACHE), targets[part].split(IN_CACHE), strict=True)
            yield part, states, torch.cat([self._slope(some, wanted) for some, wanted in pairs]), raw

    def _slope(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Put the gradient of the log-probs in place of raw logits (c, V); gives the log-probs (c,)."""
        wanted = targets[:, None]
        bounded = _capped(wide(raw), self.cap)
        found = (bounded / self.temperature if self.temperature != 1 else bounded).log_softmax(1)
        chosen = found.gather(1, wanted)[:, 0]
        slope = found.exp_().neg_()
        slope.scatter_add_(1, wanted, torch.ones_like(chosen)[:, None])
        if self.cap is not None:
            slope *= 1 - (bounded / self.cap) ** 2
        raw.copy_(slope if self.temperature == 1 else slope.div_(self.temperature))
        return chosen


class _Linear(torch.autograd.Function):
    """Log-probs under a linear head, with their gradients while the logits are there.

    With respect to raw logits, the gradient of log p(target) is (one-hot of the target - p) / temperature,
    times the slope of the cap. Times the weight it is the gradient with respect to the state, whatever the
    loss makes of log p. The head's own gradient is a sum over tokens, each times what the loss hands back.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        expected: Tensor | None,
        terms: _Terms,
    ) -> Tensor:
        of_hidden, of_weight, of_bias = ctx.needs_input_grad[:3]
        total = _Total(weight, bias) if of_weight or of_bias else None
        made = hidden.new_empty(hidden.shape if of_hidden else 0, dtype=terms.dtype)
        chosen = [wide(hidden.new_empty(0))]
        with torch.autocast(hidden.device.type, enabled=False):
            plain = weight.to(terms.dtype)
            for part, states, found, slope in terms.slabs(hidden, plain, bias, targets):
                chosen.append(found)
                if of_hidden:
                    torch.mm(slope, plain, out=made[part])
                if total is not None and expected is not None:
                    total.add(slope, states, expected[part])
        ctx.save_for_backward(hidden, weight, bias, targets, expected, made)
        ctx.terms, ctx.total = terms, total
        return torch.cat(chosen)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, expected, made = ctx.saved_tensors
        of_hidden, of_weight, of_bias = ctx.needs_input_grad[:3]
        (given,) = upstream
        to_hidden = (given[:, None].to(made.dtype) * made).to(hidden.dtype) if of_hidden else None
        if not (of_weight or of_bias):
            return to_hidden, None, None, None, None, None
        total, ctx.total = ctx.total, None  # it is scaled in place: a second backward makes its own
        factor = _factor(given, expected)
        if total is None or factor is None:
            total, factor = _Total(weight, bias), 1.0
            slabs = ctx.terms.slabs(hidden, weight.to(ctx.terms.dtype), bias, targets)
            for part, states, _, slope in slabs:
                total.add(slope, states, given[part])
        if factor != 1:
            total.times(factor)
        return to_hidden, total.weight.to(weight.dtype), total.bias if of_bias else None, None, None, None


class _Total:
    """The gradient of a head, summed over slabs."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = wide(torch.zeros_like(weight))
        self.bias = None if bias is None else wide(torch.zeros_like(bias))

    def add(self, slope: Tensor, states: Tensor, upstream: Tensor) -> None:
        scaled = (states * upstream[:, None]).to(states.dtype)
        if self.weight.dtype == slope.dtype:
            self.weight.addmm_(slope.mT, scaled)
        else:
            self.weight += slope.mT @ scaled
        if self.bias is not None:
            self.bias += wide(slope).mT @ upstream

    def times(self, factor: float) -> None:
        self.weight *= factor
        if self.bias is not None:
            self.bias *= factor


def _factor(given: Tensor, expected: Tensor | None) -> float | None:
    """What `expected` has to be multiplied by to be what was given; None where no number does it."""
    if expected is None or not len(expected):
        return None
    largest = int(expected.abs().argmax())
    factor = float(given[largest] / expected[largest])
    return factor if torch.allclose(given, factor * expected, rtol=1e-5, atol=0) else None
