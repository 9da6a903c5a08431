"""A step whose loss or gradient is no number: which examples it comes from, and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from turnsmith import seeds
from turnsmith.data.batch import Layout
from turnsmith.models.score import Scoring, to
from turnsmith.train.method import Method, unit_weights
from turnsmith.train.passes import Passes
from turnsmith.types import Batch, Rendered

NAMED = 5  # examples of a refused step that are named; of more it is said how many they are
RUN = 10  # steps refused one after another, after which it is not the examples any more but the model


def sound(values: Mapping[str, float]) -> bool:
    """Whether loss and gradient of a step are finite numbers."""
    return math.isfinite(values["loss"]) and math.isfinite(values["gradient"])


@torch.no_grad()
def culprits(
    scoring: Scoring,
    window: Sequence[Rendered],
    method: Method,
    layout: Layout,
    *,
    temperature: float = 1.0,
    reference: Callable[[Batch], Tensor] | None = None,
    seed: int = 0,
) -> list[str]:
    """The ids of the examples whose loss is no number; empty where each one's alone is a number.

    Each is looked at in a row of its own, since in a common one the attention may carry a nan from one to
    the other. seed: of dropout and of what is drawn.
    """
    found: list[str] = []
    for place, example in enumerate(window):
        torch.manual_seed(seeds.number(seed, "alone", place))
        batch = to(layout([example]), scoring.device)
        known = reference(batch) if reference else None
        passes = Passes(scoring, scoring, batch, method, temperature, reference=known, seed=seed)
        values = passes.loss().values * unit_weights(method.per, batch)
        if not bool(values.isfinite().all()):
            found.append(example.id)
    return found


def said(step: int, values: Mapping[str, float], window: Sequence[Rendered], broken: Sequence[str]) -> str:
    """What is wrong with a step, counted from 1, and with which of its examples.

    >>> values = {"loss": math.nan, "gradient": math.nan}
    >>> said(3, values, [Rendered(f"x{i}", {}) for i in range(7)], ["x4"])
    "step 3: the loss is nan and the gradient norm nan. Its loss is no number: example 'x4'"
    """
    what = f"step {step}: the loss is {values['loss']} and the gradient norm {values['gradient']}"
    if broken:
        whose = "Its loss is" if len(broken) == 1 else "Their losses are"
        return f"{what}. {whose} no number: {_listed(broken)}"
    seen = _listed([example.id for example in window])
    return f"{what}. The loss of each example alone is a number; the step has {seen}"


def way_out(step: int, refused: int) -> str:
    """What can be done after a stop at a step, counted from 1. refused: how many just before it were, too."""
    kept = f"the state after step {step - 1} is kept" if step > 1 else "nothing had been learnt yet"
    if refused:
        return (
            f"{refused} steps before it were no better, so it is the model: lower the learning rate; {kept}"
        )
    return (
        "Lower the learning rate, or look at the data with `turnsmith check`, or leave such steps out "
        f"(fit.nonfinite: skip); {kept}"
    )


def _listed(ids: Sequence[str]) -> str:
    shown = ", ".join(repr(one) for one in ids[:NAMED])
    more = f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
    return f"{'example' if len(ids) == 1 else 'examples'} {shown}{more}"
