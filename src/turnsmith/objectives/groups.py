"""Objectives over several answers of a model to each prompt: one counts by how far it is above the others.

All are GRPO with one part replaced: what is gained where the policy moves, or what the sum is divided by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from turnsmith.objectives.advantages import above, drift, gained, reinforced, softly
from turnsmith.objectives.policy import mean, outside, several, spread, start, tokens
from turnsmith.registry import objective
from turnsmith.types import Loss, Scores

LEAST, MOST = -18.42, 20.0  # log of 1e-8, and the log-ratio, between which an answer's ratio counts


class Group:
    """What all have: an answer is held against the others to its prompt. deviation: in their deviations."""

    deviation: bool

    def credit(self, scores: Sequence[Scores]) -> list[dict[str, Tensor]]:
        """How far above its prompt's each answer of a round was, for each of its tokens. Raises UsageError
        where no prompt has two answers."""
        several(scores, type(self).__name__.lower())
        baseline = "deviation" if self.deviation else "mean"
        return [spread(s, above(s.values["reward"], s.owner("replies"), baseline)) for s in scores]


@objective(
    "grpo",
    per="sequence",
    parts=("replies",),
    reference=True,
    values=("reward",),
    extras=("old", "advantage"),
    source="arXiv:2402.03300 eq. 3, 4",
)
class Grpo(Group):
    """PPO without a value model: how many deviations an answer is above those to its prompt is its advantage.

    Of each token -min(r A, clip(r, 1 - clip, 1 + clip) A) + kl * d, with r = pi / pi_old, q = pi_start / pi
    and d = q - log q - 1; of an answer, the mean over its tokens. A is the same for all tokens of an answer.
    clip_high: another bound above, 0.28 in DAPO (arXiv:2503.14476); by default that below. deviation: whether
    A is divided by the deviation. length: sums over tokens are divided by this number instead of by the
    answer's own; with deviation off it is Dr. GRPO (arXiv:2503.20783). ratio: `sequence` takes for r the
    geometric mean over the answer, as GSPO (arXiv:2507.18071 eq. 7), and with a length of 1 LUSPO
    (arXiv:2602.05261). most: where A is below 0, r counts for no more than this, above 1 + clip; without it
    such a token has no bound (INTELLECT-2, arXiv:2505.07291, whose delta it is). The deviation is that of n
    answers; TRL takes that of n - 1, plus 1e-4. kl: the paper's beta. Gives (P,). Raises UsageError where no
    prompt of a round has two answers.
    """

    def __init__(
        self,
        *,
        clip: float = 0.2,
        clip_high: float | None = None,
        kl: float = 0.04,
        deviation: bool = True,
        length: int | None = None,
        ratio: Literal["token", "sequence"] = "token",
        most: float | None = None,
    ) -> None:
        self.low, self.high, self.most = clip, clip if clip_high is None else clip_high, most
        self.kl, self.deviation, self.length, self.ratio = kl, deviation, length, ratio

    def __call__(self, s: Scores) -> Loss:
        moved = s.logprobs - s.extras["old"]
        ratio = (mean(s, moved)[s.path] if self.ratio == "sequence" else moved).exp()
        gain = gained(ratio, s.extras["advantage"], low=self.low, high=self.high, most=self.most)
        found = of_tokens(s, gain, ratio, self.kl, outside(ratio, self.low, self.high))
        values = s.along("replies", found.values) / (self.length or tokens(s))
        return Loss(values, of_answers(s, found))


@objective(
    "dapo",
    per="token",
    parts=("replies",),
    reference=True,
    values=("reward",),
    extras=("old", "advantage"),
    source="arXiv:2503.14476 eq. 8, 10",
)
class Dapo(Group):
    """`grpo` with the wider bound above, without KL, and with every token of a step of equal weight, so that
    long answers are neither favoured nor spared.

    Of each token -min(r A, clip(r, 1 - clip, 1 + clip_high) A) + kl * d, as in `grpo`; the sum is divided by
    all tokens of the step. Drawing until a prompt's rewards differ, and the shaped reward of long answers,
    are no part of the loss. Gives (N,). Raises UsageError where no prompt of a round has two answers.
    """

    def __init__(
        self, *, clip: float = 0.2, clip_high: float = 0.28, kl: float = 0.0, deviation: bool = True
    ) -> None:
        self.low, self.high, self.kl, self.deviation = clip, clip_high, kl, deviation

    def __call__(self, s: Scores) -> Loss:
        ratio = (s.logprobs - s.extras["old"]).exp()
        gain = gained(ratio, s.extras["advantage"], low=self.low, high=self.high)
        return of_tokens(s, gain, ratio, self.kl, outside(ratio, self.low, self.high))


@objective(
    "cispo",
    per="token",
    parts=("replies",),
    reference=True,
    values=("reward",),
    extras=("old", "advantage"),
    source="arXiv:2506.13585 eq. 4, 5",
)
class Cispo(Group):
    """`dapo` in which no token stops teaching where the policy has moved far: the ratio is a bounded weight.

    Of each token -min(r, most) A log pi + kl * d; no gradient goes through r. most: 1 + the paper's
    epsilon_high, which it does not give; 5 is that of arXiv:2510.13786, TRL's epsilon_high. Divided by all
    tokens of the step. Gives (N,). Raises UsageError where no prompt of a round has two answers.
    """

    def __init__(self, *, most: float = 5.0, kl: float = 0.0, deviation: bool = True) -> None:
        self.most, self.kl, self.deviation = most, kl, deviation

    def __call__(self, s: Scores) -> Loss:
        ratio = (s.logprobs - s.extras["old"]).exp()
        gain = reinforced(s.logprobs, ratio, s.extras["advantage"], most=self.most)
        return of_tokens(s, gain, ratio, self.kl, (ratio > self.most).to(ratio.dtype))


@objective(
    "gmpo",
    per="sequence",
    parts=("replies",),
    reference=True,
    values=("reward",),
    extras=("old", "advantage"),
    source="arXiv:2507.20673",
)
class Gmpo(Group):
    """`grpo` with the geometric mean of an answer's ratios in place of the arithmetic one, so that a single
    token that has moved far does not decide.

    Of an answer -exp(mean of c) A, with c = min(log r, clip) where A is above 0, and max(log r, -clip)
    elsewhere; plus kl times the mean of d. clip: of logs, the paper's 0.4, r from 0.67 to 1.49. Gives (P,).
    Raises UsageError where no prompt of a round has two answers.
    """

    def __init__(self, *, clip: float = 0.4, kl: float = 0.0, deviation: bool = True) -> None:
        self.clip, self.kl, self.deviation = clip, kl, deviation

    def __call__(self, s: Scores) -> Loss:
        moved, advantage = s.logprobs - s.extras["old"], s.extras["advantage"]
        held = torch.where(advantage > 0, moved.clamp_max(self.clip), moved.clamp_min(-self.clip))
        gain = mean(s, held).exp()[s.path] * advantage
        found = of_tokens(s, gain, moved.exp(), self.kl, (held != moved).to(moved.dtype))
        return Loss(mean(s, found.values), of_answers(s, found))


@objective(
    "sapo",
    per="sequence",
    parts=("replies",),
    reference=True,
    values=("reward",),
    extras=("old", "advantage"),
    source="arXiv:2511.20347",
)
class Sapo(Group):
    """`grpo` with a smooth gate in place of the clip: a token teaches less the further the policy has moved.

    Of each token -4 / t * sigmoid(t (r - 1)) A + kl * d, with t = up where A is above 0, else down; of an
    answer, the mean over its tokens. up, down: the paper's tau_pos and tau_neg. Gives (P,). Raises UsageError
    where no prompt of a round has two answers.
    """

    def __init__(
        self, *, up: float = 1.0, down: float = 1.05, kl: float = 0.0, deviation: bool = True
    ) -> None:
        self.up, self.down, self.kl, self.deviation = up, down, kl, deviation

    def __call__(self, s: Scores) -> Loss:
        ratio = (s.logprobs - s.extras["old"]).exp()
        gain = softly(ratio, s.extras["advantage"], up=self.up, down=self.down)
        found = of_tokens(s, gain, ratio, self.kl)
        return Loss(mean(s, found.values), of_answers(s, found))


@objective(
    "vespo",
    per="token",
    parts=("replies",),
    reference=True,
    values=("reward",),
    extras=("old", "advantage"),
    source="arXiv:2602.10693; huggingface/trl, grpo_trainer.py (get_gamma_weights)",
)
class Vespo(Group):
    """`dapo` with one weight for an answer, a smooth one of the ratio of the whole of it.

    Of each token -phi(w) A log pi + kl * d, w = product of r over the answer and phi(w) = w^k e^(l (1 - w)),
    which is 1 at w = 1; no gradient goes through it. up, down: k and l where A is 0 or above, and below.
    Divided by all tokens of the step. Gives (N,). Raises UsageError where no prompt of a round has two
    answers.
    """

    def __init__(
        self,
        *,
        up: tuple[float, float] = (2.0, 3.0),
        down: tuple[float, float] = (3.0, 2.0),
        kl: float = 0.0,
        deviation: bool = True,
    ) -> None:
        self.up, self.down, self.kl, self.deviation = up, down, kl, deviation

    def __call__(self, s: Scores) -> Loss:
        advantage, moved = s.extras["advantage"], (s.logprobs - s.extras["old"]).detach()
        whole = s.along("replies", moved).clamp(LEAST, MOST)[s.path]
        better = advantage >= 0
        power, rate = (torch.where(better, up, down) for up, down in zip(self.up, self.down, strict=True))
        weight = (power * whole + rate * (1 - whole.exp())).exp().to(moved.dtype)
        return of_tokens(s, weight * advantage * s.logprobs, moved.exp(), self.kl)


# ------------------------------------------------------------------------------------ what they share


def of_tokens(s: Scores, gain: Tensor, ratio: Tensor, kl: float, clipped: Tensor | None = None) -> Loss:
    """Of each token what is lost, the drift from the start included: (N,)."""
    apart = drift(s.logprobs, start(s))
    metrics = {"ratio": ratio, "from_start": apart}
    return Loss(kl * apart - gain, metrics if clipped is None else metrics | {"clipped": clipped})


def of_answers(s: Scores, found: Loss) -> dict[str, Tensor]:
    """What was recorded of tokens, in the mean over each answer, and its reward: (P,)."""
    return {"reward": s.values["reward"], **{name: mean(s, one) for name, one in found.metrics.items()}}
