"""Pairs of replies to a prompt, made of what each is worth and taken apart again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from turnsmith.registry import stage
from turnsmith.stages.parts import conversation_of, several_of, worth_of
from turnsmith.types import Example


@stage("every_pair", source="arXiv:2404.14367 sec. 3")
def every_pair(
    data: Sequence[Example],
    *,
    of: str = "replies",
    value: str = "reward",
    least: float = 0.0,
    counts: Counter[str],
) -> Iterator[Example]:
    """Make each of the n (n - 1) / 2 pairs of the several conversations `of` an example of its own, the one
    with the higher `value` as `chosen`, the other as `rejected`.

    least: pairs whose values are no further apart than this are left out and counted, and so is an example
    with one conversation, which has no pair. The value `margin` is how far they are apart.
    """
    for example in data:
        found, worth = several_of(example, of), worth_of(example, of, value)
        if len(found) == 1:
            counts["have one reply, and no pair"] += 1
        plain = {name: one for name, one in example.values.items() if not isinstance(one, tuple)}
        for pair in combinations(range(len(found)), 2):
            better, worse = sorted(pair, key=worth.__getitem__, reverse=True)
            margin = worth[better] - worth[worse]
            if margin <= least:
                counts[f"pairs no more than {least:g} apart"] += 1
                continue
            parts = {"chosen": found[better], "rejected": found[worse]}
            meta = {**example.meta, "id": f"{example.id}/{better}-{worse}"}
            yield Example(parts, {**plain, "margin": margin}, meta)


@stage("verdicts", source="arXiv:2402.01306")
def verdicts(
    data: Sequence[Example], *, chosen: str = "chosen", rejected: str = "rejected", to: str = "text"
) -> Iterator[Example]:
    """Make each conversation of a pair an example of its own, with the value `label`: 1 of the chosen one, 0
    of the rejected one, which comes second. Other values of the pair stay with both."""
    for example in data:
        for part, label in ((chosen, 1.0), (rejected, 0.0)):
            meta = {**example.meta, "id": f"{example.id}/{part}"}
            yield Example({to: conversation_of(example, part)}, {**example.values, "label": label}, meta)
