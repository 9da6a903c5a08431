"""Whether a run degenerates: what objectives say of each step and what is drawn, its last steps against its
first."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from turnsmith.train.loop import Recorder
from turnsmith.types import Conversation, Example, Message

LEAST = 5  # steps that a mean is taken of, at least
SHARE = 0.1  # of all steps so far, in a longer run: the first tenth against the last
CLEAR = 2.0  # standard errors that two means must be apart: below it noise alone does that one time in 20
GRAM = 4  # tokens: "seq-rep-4" of arXiv:1908.04319

# The thresholds are round figures: what a fault is named after is beyond them, and a sound run is not.
CHOSEN = 0.5  # units of reward, beta times nats: odds of 1:1 become 38:62
CHOSEN_NATS = 1.1  # of its first value, per token: noise gives some percent
LENGTH = 2.0  # of the first length; that rewards drive length: arXiv:2310.03716
ENTROPY = 0.25  # of the first entropy; that it collapses and no more is gained then: arXiv:2505.22617
REPEATED = 0.2  # share of repeated 4-grams; people's texts have 0.006, broken ones 0.44 (arXiv:1908.04319)
FAR = 1.0  # nats per token: on average a token is e times as likely as under the start


@dataclass(frozen=True, slots=True)
class Rule:
    """names: of figures of a step, each looked at alone. bad: whether the mean of the last steps is a fault,
    after that of the first. words: what has happened, and what helps."""

    names: tuple[str, ...]
    bad: Callable[[float, float], bool]
    words: str
    way_out: str


RULES = (
    Rule(
        ("reward_chosen",),
        lambda first, last: last < first - CHOSEN,
        "the log-prob of chosen replies falls, though it should rise",
        "lower the learning rate, raise beta, or take `orpo`, which learns the chosen replies themselves",
    ),
    Rule(
        ("nats_chosen",),
        lambda first, last: last > CHOSEN_NATS * first,
        "the log-prob of chosen replies falls, though it should rise",
        "lower the learning rate or the weight",
    ),
    Rule(
        ("reply_tokens",),
        lambda first, last: last > LENGTH * first,
        "replies get longer and longer",
        "look at them, and whether the reward likes length",
    ),
    Rule(
        ("entropy", "reply_nats"),
        lambda first, last: last < ENTROPY * first,
        "the entropy collapses, so that hardly anything else is tried any more",
        "lower the learning rate, or hold the model closer to its start",
    ),
    Rule(
        ("repeated",),
        lambda first, last: last > max(REPEATED, first + REPEATED / 2),
        "replies repeat themselves",
        "look at them, lower the learning rate, or hold the model closer to its start",
    ),
    Rule(
        ("from_start", "kl"),
        lambda first, last: last > max(FAR, 2 * first),
        "the model has gone far from the one that it is compared with",
        "lower the learning rate, or hold it closer (`kl`)",
    ),
)


class Health:
    """A recorder that passes all on, and tells once of each fault as soon as it shows.

    file: the rows of the steps before a run goes on, as the recorder keeps them.
    """

    def __init__(self, recorder: Recorder, file: Path, tell: Callable[[str], None]) -> None:
        self.recorder, self.file, self.tell = recorder, file, tell
        self.faults = Faults()

    def step(self, values: Mapping[str, float]) -> None:
        """Record a step, then look at the run."""
        self.recorder.step(values)
        self._tell(self.faults.after(values))

    def rewind(self, step: int) -> None:
        """Forget all after `step`; what showed before it is told again, to whoever goes on."""
        self.recorder.rewind(step)
        self.faults = Faults()
        for row in rows(self.file):
            self._tell(self.faults.after(row))

    def _tell(self, said: Iterable[str]) -> None:
        for one in said:
            self.tell(one)


class Faults:
    """Series of figures, step by step, and which rules they have broken."""

    def __init__(self) -> None:
        self.series: dict[str, list[float]] = {}
        self.broken: set[str] = set()

    def after(self, values: Mapping[str, float | None]) -> list[str]:
        """The faults that show with the figures of one step more and did not before."""
        found: list[str] = []
        for rule in RULES:
            for name in rule.names:
                value = values.get(name)
                if value is None or not math.isfinite(value):
                    continue
                series = self.series.setdefault(name, [])
                series.append(value)
                if rule.words not in self.broken and (means := apart(series)) and rule.bad(*means):
                    self.broken.add(rule.words)
                    ends = f"{name} {means[0]:.3g} -> {means[1]:.3g}"
                    at = int(values.get("step") or 0)
                    found.append(f"by step {at} {rule.words} ({ends}): {rule.way_out}")
        return found


def apart(series: Sequence[float]) -> tuple[float, float] | None:
    """Means of the first and of the last steps; None where they are too few, or noise may be all there is.

    >>> apart([0.0] * 5 + [1.0] * 5)
    (0.0, 1.0)
    >>> apart([0.0, 1.0] * 5)
    """
    count = max(LEAST, round(SHARE * len(series)))
    if len(series) < 2 * count:
        return None
    ends = series[:count], series[-count:]
    first, last = map(fmean, ends)
    spread = sum(float(np.var(end)) for end in ends)  # of each step again: `statistics` takes exact fractions
    error = math.sqrt(spread / (count - 1))
    return (first, last) if abs(last - first) > CLEAR * error else None


def said(file: Path) -> list[str]:
    """All that was told of a run, from the rows of its steps."""
    faults = Faults()
    return [one for row in rows(file) for one in faults.after(row)]


def rows(file: Path) -> list[dict[str, float | None]]:
    """The rows of the steps so far; none where there is no file yet."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def drawn(examples: Iterable[Example]) -> dict[str, float]:
    """Figures of the replies that a model drew: nothing where it drew none.

    reply_tokens: mean length. repeated: the share of 4-grams that stood before in the same reply, a mean over
    replies that have any (arXiv:1908.04319). reply_nats: minus the mean log-prob of a token, which is
    in expectation the entropy of what it was drawn from.
    """
    replies = [message for example in examples for message in _messages(example) if message.ids]
    if not replies:
        return {}
    ids = [reply.ids or () for reply in replies]
    nats = [-value for reply in replies for value in reply.logprobs or ()]
    repetitions = [repeated(one) for one in ids if len(one) >= GRAM]
    return {
        "reply_tokens": fmean(map(len, ids)),
        **({"repeated": fmean(repetitions)} if repetitions else {}),
        **({"reply_nats": fmean(nats)} if nats else {}),
    }


def repeated(ids: Sequence[int]) -> float:
    """The share of 4-grams that stood before.

    >>> repeated([1, 2, 3, 4, 5]), repeated([1] * 7)
    (0.0, 0.75)
    """
    grams = [tuple(ids[at : at + GRAM]) for at in range(len(ids) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams)


def _messages(example: Example) -> Iterable[Message]:
    for part in example.parts.values():
        for one in (part,) if isinstance(part, Conversation) else part:
            yield from one.messages
