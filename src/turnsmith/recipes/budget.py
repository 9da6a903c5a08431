"""What a method may cost in a comparison, and how many optimiser steps that buys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from turnsmith.errors import UsageError

Unit = Literal["seconds", "flops", "tokens"]
UNITS: dict[str, tuple[Unit, float]] = {
    "s": ("seconds", 1),
    "m": ("seconds", 60),
    "h": ("seconds", 3600),
    "flops": ("flops", 1),
    "tokens": ("tokens", 1),
}
SPELLING = re.compile(r"([0-9][0-9_,.]*(?:e[+-]?[0-9]+)?)\s*(s|m|h|flops|tokens)")


@dataclass(frozen=True, slots=True)
class Spent:
    """What something cost: seconds of work, floating-point operations, and tokens read or written."""

    seconds: float = 0.0
    flops: float = 0.0
    tokens: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.seconds + other.seconds, self.flops + other.flops, self.tokens + other.tokens)

    def of(self, unit: Unit) -> float:
        found: float = getattr(self, unit)
        return found


@dataclass(frozen=True, slots=True)
class Budget:
    """What each method may spend, its stages and sampling included."""

    amount: float
    unit: Unit

    def __str__(self) -> str:
        if self.unit == "seconds":
            return f"{self.amount / 60:g} minutes" if self.amount >= 60 else f"{self.amount:g} seconds"
        return f"{self.amount:,.0f} tokens" if self.unit == "tokens" else f"{self.amount:.3g} FLOPs"

    def times(self, share: float) -> Budget:
        return Budget(self.amount * share, self.unit)


def parse(text: str) -> Budget:
    """A budget as it is typed.

    >>> str(parse("10m")), str(parse("2e15flops")), str(parse("50000 tokens"))
    ('10 minutes', '2e+15 FLOPs', '50,000 tokens')
    """
    found = SPELLING.fullmatch(text.strip().lower())
    try:
        amount = float(re.sub("[_,]", "", found[1])) if found else 0.0
    except ValueError:
        amount = 0.0
    if not found or not amount:
        raise UsageError(f"budget {text!r}: write it like 90s, 10m, 1.5h, 2e15flops or 50000tokens")
    unit, times = UNITS[found[2]]
    return Budget(amount * times, unit)


def of_data(made: Mapping[str, Any]) -> Spent:
    """What a `data` step took, as its record says: its stages, and what chats read and wrote for them."""
    used: Mapping[str, float] = made.get("usage") or {}
    return Spent(float(made["seconds"]), float(made.get("flops") or 0), float(sum(used.values())))


def of_training(made: Mapping[str, Any]) -> Spent:
    """What a `train` step took, reference log-probs, what was kept of frozen blocks, and what was drawn to
    learn from included."""
    used: Mapping[str, float] = made.get("usage") or {}
    seconds = float(made["seconds"]) + float(made["preparing_seconds"])
    flops = float(made["flops"]) + float(made["reference_flops"])
    drawing = Spent(
        float(made.get("collecting_seconds") or 0),
        float(made.get("collecting_flops") or 0),
        float(sum(used.values())),
    )
    return Spent(seconds, flops, float(made["tokens"])) + drawing


@dataclass(frozen=True, slots=True)
class Rate:
    """What training costs for each token of the conversations as they stand: once for each token of an
    example that is seen at all (its reference log-probs), and for each time that it is seen."""

    seen: float
    each: float

    def steps(self, allowance: float, sizes: np.ndarray, times: Any) -> int:
        """The most optimiser steps that cost no more than `allowance`; at least one.

        sizes: (E,) tokens of each example. times: gives (E,) how often each is seen in so many steps.
        """

        def cost(steps: int) -> float:
            seen = times(steps)
            return self.each * float((seen * sizes).sum()) + self.seen * float(sizes[seen > 0].sum())

        low, high = 1, 2
        while cost(high) <= allowance:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if cost(middle) <= allowance else (low, middle)
        return low


def rate(trial: Mapping[str, Any], unit: Unit) -> Rate:
    """The rate that a trial of some steps showed.

    trial: `sizes`, tokens of the examples of each step, and `seconds`, `tokens` and `flops` of each;
    `seen`, tokens of all of them, each once; `preparing_seconds` and `reference_flops` for these. The first
    step is warm-up: its seconds say nothing.
    """
    sizes = trial["sizes"]
    if unit == "seconds":
        each = sum(trial["seconds"][1:]) / sum(sizes[1:])
        return Rate(trial["preparing_seconds"] / trial["seen"], each)
    each = sum(trial[unit]) / sum(sizes)
    return Rate(trial["reference_flops"] / trial["seen"] if unit == "flops" else 0.0, each)
