"""What a training run costs: floating-point operations and energy, both estimates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from turnsmith.models.lower import blocks, depth

if TYPE_CHECKING:
    from turnsmith.types import Batch

WATTS_PER_CORE = 10.0  # of a busy server core, memory included; a round figure
ENERGY_NOTE = f"estimate: {WATTS_PER_CORE:g} W per core for the whole time; not measured"


@dataclass(frozen=True, slots=True)
class Work:
    """What is computed in a step: `tokens`, `supervised` of which go through the head, and `attended` pairs
    of a token and one that it sees, itself included."""

    tokens: int
    supervised: int
    attended: int


def work(batches: Iterable[Batch]) -> Work:
    """Of micro-batches, padding left out. A token sees all before it on its path, windows or not."""
    tokens = supervised = attended = 0
    for batch in batches:
        seen = batch.positions + 1
        tokens += batch.tokens
        supervised += len(batch.targets)
        attended += int((seen if batch.mask is None else seen * batch.mask).sum())
    return Work(tokens, supervised, attended)


def training_flops(
    model: Any, tokens: int, supervised: int, attended: int = 0, *, lowest: int | None = None
) -> float:
    """Operations of forward and backward over `tokens`, of which `supervised` go through the head.

    Two for each weight and token forward, two for the gradient of the activations, two more for each weight
    that learns (arXiv:2001.08361 sec. 2.1). attended: pairs of a token and one that it sees, itself included;
    each takes 12 times the width of all heads in every layer: two products forward, four backward, two
    operations each. Through frozen lowest blocks nothing goes back; lowest: how many tokens went through
    their weights, `tokens` where None; their attention is counted as that of the others. Padding,
    recomputation and element-wise work are left out.
    """
    flops, found = 0.0, blocks(model)
    head = getattr(model, "get_output_embeddings", lambda: None)()
    frozen = {m for block in found[1][: depth(model)] for m in block.modules()} if found else set()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            times = supervised if module is head else tokens
            operations = 6 if module.weight.requires_grad else 4
            if module in frozen:
                times, operations = tokens if lowest is None else lowest, 2
            flops += module.weight.numel() * times * operations
    return flops + (12.0 * attended * width(model) if attended else 0.0)


def forward_flops(model: nn.Module, tokens: int, supervised: int) -> float:
    """Operations of a forward pass alone, counted as `training_flops` counts them."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return sum(2.0 * one.weight.numel() * (supervised if one is head else tokens) for one in linear)


def width(model: nn.Module) -> int:
    """Numbers of one token's queries, all layers together."""
    settings: Any = model.config
    size = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    return settings.num_hidden_layers * settings.num_attention_heads * size


def energy_wh(seconds: float, cores: int) -> float:
    """Watt-hours of a run on `cores` cores, under the assumption that `ENERGY_NOTE` states."""
    return seconds / 3600 * WATTS_PER_CORE * cores
