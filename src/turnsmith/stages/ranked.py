"""Pairs of a better and a worse answer at one point of logged conversations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.sample.chat import samples
from turnsmith.types import Chat, Conversation, Example, Reply, Sampling, Scorer


@stage("ranked_pairs", chats=("by",), scorers=("reward",), source="arXiv:2410.04612 sec. 5, LT-OFFLINE")
def ranked_pairs(
    data: Sequence[Example],
    *,
    by: Chat,
    reward: Scorer,
    to: str = "text",
    of: int = 2,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new: int = 256,
    rng: Random,
    counts: Counter[str],
) -> Iterator[Example]:
    """At one answer of each conversation, drawn evenly, the best and the worst of some that `by` gives there.

    of: how many are drawn. reward: judges the conversation up to each. Examples get the parts `chosen` and
    `rejected`. Left out and counted: conversations without an answer, those that cannot be answered or
    judged, and those whose answers are all as good. Raises UsageError where fewer than two are drawn.
    """
    if of < 2:
        raise UsageError(f"ranked_pairs: of is {of}, and a pair takes at least 2 answers")
    asked: list[tuple[Example, Conversation]] = []
    for example in data:
        given = example.parts.get(to)
        if isinstance(given, Conversation) and given.answers:
            asked.append((example, given.upto(rng.choice(given.answers))))
        else:
            counts["have no answer"] += 1
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new=max_new)
    drawn = samples(by, [prompt for _, prompt in asked], of, sampling=sampling)
    for (example, prompt), replies in zip(asked, drawn, strict=True):
        said = [prompt.then(reply.message) for reply in replies if isinstance(reply, Reply)]
        scores = [score for score in reward(said, [example] * len(said)) if score is not None]
        if len(scores) < of:
            counts["could not be answered or judged"] += 1
        elif min(scores) == max(scores):
            counts["pairs of equally good answers"] += 1
        else:
            best, worst = scores.index(max(scores)), scores.index(min(scores))
            yield Example({"chosen": said[best], "rejected": said[worst]}, example.values, example.meta)
