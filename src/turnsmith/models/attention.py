"""Attention over a forest: who sees whom, and how that is computed on CPUs and on GPUs.

On CPUs a row is cut into blocks of queries, each with the keys that some of them see, and the whole is a few
matrix products on contiguous operands: these are what runs at full speed there, and the fused attention of
torch 2.13 reaches a tenth of it in its backward pass. Scores and their softmax are float32 at least. Only the
arguments are kept for the backward pass, which computes the softmax again. On GPUs FlexAttention does the
same with a block mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from turnsmith.models.head import wide

if TYPE_CHECKING:
    from turnsmith.models.forest import Forest

QUERIES = 128  # of a block: more of them see more keys in vain, fewer make products that are too thin
Span = tuple[int, int]


def sight(forest: Forest, window: int | None, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Whether the token at one place of a row sees that at another: a function of two tensors of places.

    A token sees those of its own segment and of its ancestors that are not ahead of it on its path, nor
    `window` or more behind, nor forgotten.
    """
    numbers, ends = zip(*forest.families(), strict=True)
    lengths = torch.tensor([stop - start for start, stop in pairwise(forest.bounds)])
    number, end = (torch.tensor(x).repeat_interleave(lengths).to(device) for x in (numbers, ends))
    position = torch.tensor(forest.positions()).to(device)
    kept = remembered(forest).to(device) if any(forest.forgets) else None

    def sees(query: Tensor, key: Tensor) -> Tensor:
        kin = (number[key] <= number[query]) & (number[query] < end[key])
        behind = position[query] - position[key]
        seen = kin & (behind >= 0)
        seen = seen if kept is None else seen & kept[query, key]
        return seen if window is None else seen & (behind < window)

    return sees


def remembered(forest: Forest) -> Tensor:
    """(T, T): whether a token (row) may see another of its segment (column), as far as it forgets.

    Drawn for each pair by itself; a segment's first token, and each token itself, is never forgotten.
    """
    kept = torch.ones(forest.bounds[-1], forest.bounds[-1], dtype=torch.bool)
    for (start, stop), forgets in zip(pairwise(forest.bounds), forest.forgets, strict=True):
        if forgets is None:
            continue
        share, seed = forgets
        drawn = torch.rand(stop - start, stop - start, generator=torch.Generator().manual_seed(seed)) >= share
        drawn[:, 0] = True
        kept[start:stop, start:stop] = drawn.fill_diagonal_(True)
    return kept


# ------------------------------------------------------------------------------------------------ on CPUs


@dataclass(frozen=True, slots=True)
class Block:
    """Queries `start:stop` of a row and the spans of keys that some of them see, in all `keys` of them.

    hidden: (queries, the last of the keys): -inf where a query does not see a key, else 0. Keys before these
    are seen by all.
    """

    start: int
    stop: int
    spans: tuple[Span, ...]
    hidden: Tensor

    def of(self, states: Tensor) -> Tensor:
        """(G, keys, D), each of G contiguous, out of (G, T, D); a view where there is one span."""
        parts = [states[:, lo:hi] for lo, hi in self.spans]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def add(self, total: Tensor, slopes: Tensor) -> None:
        """Add (G, D, keys) to the keys' places in (G, D, T)."""
        sizes = [hi - lo for lo, hi in self.spans]
        for (lo, hi), part in zip(self.spans, slopes.split(sizes, 2), strict=True):
            total[:, :, lo:hi].add_(part)


def attend(
    query: Tensor, key: Tensor, value: Tensor, forest: Forest, *, scale: float, window: int | None = None
) -> Tensor:
    """(1, T, heads, D') from queries (1, heads, T, D), keys (1, G, T, D) and values (1, G, T, D').

    G divides heads. A token sees itself and its ancestors, no more than `window` positions in all.
    """
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotations are float32 under autocast
    out: Tensor = _Attention.apply(query[0], key[0], value[0], blocks(forest, window), scale)
    return out[None]


@lru_cache(maxsize=4)  # once for all layers of a row, those with a window and those without
def blocks(forest: Forest, window: int | None) -> tuple[Block, ...]:
    """A row cut into blocks: long segments in pieces, short ones together."""
    sees = sight(forest, window, torch.device("cpu"))

    def block(start: int, stop: int) -> Block:
        seen = sees(torch.arange(start, stop)[:, None], torch.arange(stop))
        spans = _spans(seen.any(0))
        hidden = torch.cat([~seen[:, lo:hi] for lo, hi in spans], 1)
        first = int(hidden.any(0).int().argmax()) if hidden.any() else hidden.shape[1]
        return Block(start, stop, spans, torch.zeros(()).where(~hidden[:, first:], -torch.inf))

    return tuple(block(start, stop) for start, stop in _cuts(forest.bounds))


def _cuts(bounds: Sequence[int]) -> list[Span]:
    """Runs of at most `QUERIES` tokens: whole segments, or pieces of one."""
    cuts: list[Span] = []
    start = 0
    for first, last in pairwise(bounds):
        if last - start > QUERIES:
            if first > start:
                cuts.append((start, first))
            start = first
            while last - start > QUERIES:
                cuts.append((start, start + QUERIES))
                start += QUERIES
    return [*cuts, (start, bounds[-1])]


def _spans(wanted: Tensor) -> tuple[Span, ...]:
    """The runs of True in (T,)."""
    edges = F.pad(wanted.int(), (1, 1)).diff()
    return tuple(zip((edges > 0).nonzero()[:, 0].tolist(), (edges < 0).nonzero()[:, 0].tolist(), strict=True))


class _Attention(torch.autograd.Function):
    """softmax(scale Q K^T) V, block by block."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, plan: Sequence[Block], scale: float
    ) -> Tensor:
        key, value = key.contiguous(), value.contiguous()
        ctx.save_for_backward(query, key, value)
        ctx.plan, ctx.scale = plan, scale
        out = query.new_empty(query.shape[1], len(query), value.shape[2])
        for block in plan:
            weights = _weights(_rows(query, len(key), block), block.of(key), block, scale)
            place = _grouped(out.transpose(0, 1), len(key), block)
            place.copy_(torch.bmm(weights.to(value.dtype), block.of(value)).view(place.shape))
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        groups, dtype, slope = len(key), value.dtype, upstream[0].transpose(0, 1)
        to_query = torch.empty_like(query)
        to_key, to_value = (wide(torch.zeros_like(x).transpose(1, 2)) for x in (key, value))
        for block in ctx.plan:
            queries, slopes = _rows(query, groups, block), _rows(slope, groups, block)
            keys = block.of(key)
            weights = _weights(queries, keys, block, ctx.scale)
            block.add(to_value, torch.bmm(slopes.mT.contiguous(), weights.to(dtype)))
            to_weights = wide(torch.bmm(slopes, block.of(value).mT))
            to_scores = torch.ops.aten._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            to_scores = to_scores.to(dtype)
            place = _grouped(to_query, groups, block)
            place.copy_(torch.bmm(to_scores, keys).view(place.shape))
            block.add(to_key, torch.bmm(queries.mT.contiguous(), to_scores))
        to_query, to_key = to_query.mul_(ctx.scale), to_key.mul_(ctx.scale)
        return to_query, to_key.mT.to(dtype), to_value.mT.to(dtype), None, None


def _grouped(states: Tensor, groups: int, block: Block) -> Tensor:
    """(G, heads / G, queries, D): a view of a block's part of (heads, T, D)."""
    return states.unflatten(0, (groups, -1))[:, :, block.start : block.stop]


def _rows(states: Tensor, groups: int, block: Block) -> Tensor:
    """(G, heads / G * queries, D): those of all heads that share a head of keys, one below the other."""
    return _grouped(states, groups, block).flatten(1, 2)


def _weights(queries: Tensor, keys: Tensor, block: Block, scale: float) -> Tensor:
    """(G, heads / G * queries, keys): how much of each key's value each query takes."""
    scores = torch.bmm(wide(queries) * scale, wide(keys).mT)
    count, last = block.hidden.shape
    scores.view(len(keys), -1, count, keys.shape[1])[..., keys.shape[1] - last :].add_(block.hidden)
    return scores.softmax(-1)


# ------------------------------------------------------------------------------------------------ on GPUs


def attend_by_mask(
    query: Tensor, key: Tensor, value: Tensor, forest: Forest, *, scale: float, window: int | None = None
) -> Tensor:
    """What `attend` gives, by FlexAttention. Compiled on CUDA; elsewhere it holds all scores at once and has
    no gradients."""
    from torch.nn.attention.flex_attention import flex_attention

    query, key = query.to(value.dtype), key.to(value.dtype)
    run = _compiled() if query.is_cuda else flex_attention
    mask = _mask(forest, window, query.device)
    out = run(query, key, value, block_mask=mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1])
    assert isinstance(out, Tensor)
    return out.transpose(1, 2)


@cache
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


@lru_cache(maxsize=4)
def _mask(forest: Forest, window: int | None, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    sees = sight(forest, window, device)
    length = forest.bounds[-1]
    return create_block_mask(lambda _b, _h, q, k: sees(q, k), None, None, length, length, device=str(device))
