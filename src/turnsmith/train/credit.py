"""Numbers for each trained token that are made once, before examples are learnt from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from turnsmith.data.batch import Layout, deal
from turnsmith.data.store import sizes_of
from turnsmith.models.modes import evaluating
from turnsmith.models.score import Scoring, to
from turnsmith.train.method import Method
from turnsmith.train.reference import places_of
from turnsmith.types import Batch, Rendered, Scores

REFERENCE = "reference"


@torch.no_grad()
def credit(
    scoring: Scoring,
    examples: Sequence[Rendered],
    method: Method,
    layout: Layout,
    *,
    row: int,
    temperature: float,
    reference: Callable[[Batch], Tensor] | None = None,
) -> dict[str, np.ndarray]:
    """What the objective wants to know beforehand of the examples under `scoring` as it is now.

    Log-probs of `reference` where it compares with them, and what its `credit` gives. Each is (N,) over the
    trained tokens of all examples, one example behind the other. Raises ValueError where `credit` gives other
    names than are declared, or not a number for each token.
    """
    counts = sizes_of(examples)[1]
    ends = np.cumsum(counts)
    places: list[np.ndarray] = []
    given: list[dict[str, Tensor]] = []
    scores: list[Scores] = []
    with evaluating(scoring):
        for run in deal(examples, row, layout) if reference or method.credit else ():
            batch = to(layout([examples[index] for index in run]), scoring.device)
            more = {REFERENCE: reference(batch)} if reference else {}
            if method.credit:
                known = replace(batch, extras={**batch.extras, **more})
                scores.append(
                    scoring(
                        known,
                        temperature=temperature,
                        reads=method.reads,
                        needs=method.needs,
                        others=method.others,
                    )
                )
            places.append(places_of(np.array(run), counts, ends))
            given.append(more)
    if method.credit:
        for more, seen, found in zip(given, scores, method.credit(scores), strict=True):
            more.update(_checked(method, seen, found))
    names = given[0] if given else {}
    made = {name: np.zeros(int(ends[-1]), np.float32) for name in names}
    for where, one in zip(places, given, strict=True):
        for name, values in one.items():
            made[name][where] = values.float().numpy(force=True)
    return made


def _checked(method: Method, scores: Scores, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `credit` gave for one batch."""
    if set(given) != set(method.extras):
        raise ValueError(
            f"the objective declares the extras {', '.join(method.extras) or '(none)'}, and its credit gives "
            f"{', '.join(given) or '(none)'}"
        )
    for name, values in given.items():
        if values.shape != scores.logprobs.shape:
            raise ValueError(
                f"credit: {name} has the shape {tuple(values.shape)}, and there are "
                f"{len(scores.logprobs)} trained tokens: give one number for each"
            )
    return dict(given)
