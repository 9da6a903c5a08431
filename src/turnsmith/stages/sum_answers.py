"""Sums with several answers, of which it is known how far they are off, and pairs that are labelled badly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Message


@stage("sum_answers", source="card 14's arithmetic for arXiv:2502.10391")
def sum_answers(
    data: Sequence[Example], *, count: int, most: int = 50, of: int = 3, off: int = 9, rng: Random
) -> Iterator[Example]:
    """Add `count` additions of two numbers from 1 to `most`, each with `of` answers as the part `replies`:
    the right one and others that are wrong by 1 to `off`, no two by as much, in any order.

    The value `rank` is how far an answer is off, `reward` minus that, and the metadata have under `reasons`
    what is to be said of each. Raises UsageError where there are not so many different answers.
    """
    yield from data
    if not 2 <= of <= off + 1 or most < 1:
        raise UsageError(
            f"sum_answers: of is {of}, off {off}, most {most}: 2 to {off + 1} answers are possible"
        )
    for number in range(count):
        one, other = rng.randint(1, most), rng.randint(1, most)
        total, wrong = one + other, [0, *rng.sample(range(1, off + 1), of - 1)]
        rng.shuffle(wrong)
        said = [total + far * rng.choice((-1, 1)) for far in wrong]
        asked = Message("user", f"What is {one} plus {other}?")
        replies = tuple(Conversation((asked, Message("assistant", f"It is {value}."))) for value in said)
        values = {"rank": tuple(map(float, wrong)), "reward": tuple(-float(far) for far in wrong)}
        reasons = [
            f"{one} plus {other} is {total}. The answer says {value}: "
            + (f"it is off by {far}." if far else "it is right.")
            for far, value in zip(wrong, said, strict=True)
        ]
        meta = {"id": f"sum-{number}", "reasons": reasons}
        yield Example({"replies": replies}, values, meta)


@stage("misjudged", source="card 14's noisy preferences for arXiv:2502.10391")
def misjudged(
    data: Sequence[Example],
    *,
    share: float = 0.3,
    sure: tuple[float, float] = (2.0, 6.0),
    unsure: tuple[float, float] = (0.0, 0.5),
    rng: Random,
) -> Iterator[Example]:
    """Exchange `chosen` and `rejected` of a share of the pairs, and give all the value `margin`, as a reward
    model would that is unsure where labels are wrong: drawn evenly from `unsure` for those that were
    exchanged and from `sure` for the others.

    The value `flipped` says which these are, 0 or 1. Raises UsageError unless the share is between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"misjudged: share is {share}, and has to be between 0 and 1")
    turned = set(rng.sample(range(len(data)), round(share * len(data))))
    for place, example in enumerate(data):
        flipped = place in turned
        parts = dict(example.parts)
        if flipped:
            parts |= {"chosen": example.parts["rejected"], "rejected": example.parts["chosen"]}
        values = {"margin": rng.uniform(*(unsure if flipped else sure)), "flipped": float(flipped)}
        yield replace(example, parts=parts, values={**example.values, **values})
