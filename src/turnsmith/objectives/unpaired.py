"""Objectives over single answers that are wanted or not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from turnsmith.errors import UsageError
from turnsmith.objectives.margins import far
from turnsmith.registry import objective
from turnsmith.types import Look, Loss, Rendered, Scores, Tokens

BASELINE = "baseline"  # the value that says what the examples of a step are compared with


@objective("kto", per="example", reference=True, values=("label",), source="arXiv:2402.01306")
class KTO:
    """Raise answers that are wanted above what the policy has drifted by, and lower those that are not.

    weight * (1 - sigmoid(+-(beta * (log-ratio - z0)))): + where the value `label` is above 0, with the weight
    `desirable`, - where it is not, with `undesirable`: the paper's lambdas. Log-ratios are against the step's
    start, summed over trained tokens. z0, the same for all examples of a step, is what its prompts' log-ratio
    with the answer of the next example is on average, no less than 0; no gradient goes through it. It takes
    two passes more and `fit: {reference: live}`. compared: off, z0 is 0 and is not asked for, which is
    APO-zero (arXiv:2408.06266) on single answers. Data of `validate_on` are compared with 0. Gives (E,); half
    of the weight where policy and reference are the same. Raises UsageError where a step that is compared has
    one example.
    """

    def __init__(
        self,
        *,
        beta: float = 0.1,
        desirable: float = 1.0,
        undesirable: float = 1.0,
        compared: bool = True,
    ) -> None:
        self.beta, self.desirable, self.undesirable = beta, desirable, undesirable
        self.compared = compared

    def before_step(self, look: Look) -> dict[str, list[float]]:
        """z0 for each example of the coming step."""
        if not self.compared:
            return {}
        count = len(look.window)
        if count < 2:
            raise UsageError("kto: a step of one example has no other answer to compare: raise fit.batch")
        ratios = look.each(mismatched(look.window), lambda s: s.ratio("text"))
        return {BASELINE: [max(0.0, float(ratios.mean()))] * count}

    def __call__(self, s: Scores) -> Loss:
        ratio, wanted = s.ratio("text"), s.values["label"] > 0
        baseline = s.values.get(BASELINE, torch.zeros_like(ratio)).to(ratio.dtype)
        ahead = self.beta * (ratio - baseline)
        sign = torch.where(wanted, 1.0, -1.0).to(ratio.dtype)
        weight = torch.where(wanted, self.desirable, self.undesirable).to(ratio.dtype)
        metrics = {
            "accuracy": (sign * ahead > 0).float(),
            "margin": sign * ahead,
            "reward_chosen": torch.where(wanted, self.beta * ratio, 0.0),  # 0 where the answer is not wanted
            "baseline": baseline,
            "logprob": s.sums("text"),
            "tokens_answer": s.lengths("text"),
            "from_start": far(s, "text"),
        }
        return Loss(weight * (-sign * ahead).sigmoid(), metrics)


def mismatched(window: Sequence[Rendered]) -> list[Rendered]:
    """Each example's tokens up to the first that learns, and those of the next one from there on."""
    after = [*window[1:], *window[:1]]
    return [_joined(one, other) for one, other in zip(window, after, strict=True)]


def _joined(one: Rendered, other: Rendered) -> Rendered:
    (prompt,), (answer,) = one.parts["text"], other.parts["text"]
    stop, start = _first(prompt), _first(answer)

    def both(name: str) -> np.ndarray:
        return np.concatenate([getattr(prompt, name)[:stop], getattr(answer, name)[start:]])

    tokens = Tokens(both("inputs"), both("targets"), both("weights"), both("turns"))
    return Rendered(one.id, {"text": (tokens,)}, one.values)


def _first(tokens: Tokens) -> int:
    """Where the first token that learns stands; the end where none does."""
    learn = np.flatnonzero(tokens.weights)
    return int(learn[0]) if len(learn) else len(tokens)
