"""AdamW and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import increment_version

from turnsmith.train.options import Fit


def adamw(parameters: Iterable[nn.Parameter], fit: Fit) -> torch.optim.AdamW:
    """AdamW over the parameters that learn; weight decay on matrices only.

    A step counts as a change in place of each: engines that keep copies of weights go by that count.
    """
    learning = list(parameters)
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": fit.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    made = torch.optim.AdamW([g for g in groups if g["params"]], lr=fit.lr, betas=(0.9, 0.999), fused=True)
    made.register_step_post_hook(_count)
    return made


def _count(optimizer: torch.optim.Optimizer, arguments: Any, options: Any) -> None:
    """Torch's fused step leaves the version counters as they were."""
    increment_version([p for group in optimizer.param_groups for p in group["params"]])


def carried(old: torch.optim.Optimizer, learning: Mapping[str, nn.Parameter], fit: Fit) -> torch.optim.AdamW:
    """An optimiser of what learns now, with the state of what learned before."""
    optimizer = adamw(learning.values(), fit)
    optimizer.state.update({p: old.state[p] for p in learning.values() if p in old.state})
    return optimizer


def rate(fit: Fit, step: int, total: int) -> float:
    """Learning rate of step `step` (from 0) of `total`: rises over the warm-up, then falls to 0 after the
    last.

    >>> fit = Fit(steps=10, lr=1.0, warmup=0.2)
    >>> [round(rate(fit, step, 10), 3) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
    """
    warm = math.ceil(round(fit.warmup * total, 6))  # 0.07 * 100 is a little more than 7
    if step < warm:
        return fit.lr * (step + 1) / warm
    if fit.schedule == "constant":
        return fit.lr
    left = 1 - (step - warm) / max(1, total - warm)
    return fit.lr * (left if fit.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))
