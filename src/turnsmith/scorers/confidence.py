"""Judging a reply by whether the model that is asked would say the same, and says that it is right."""

from __future__ import annotations

import re
from collections.abc import Sequence

from turnsmith.data.overlap import shared
from turnsmith.errors import UsageError
from turnsmith.registry import scorer
from turnsmith.sample.chat import samples
from turnsmith.types import Chat, Conversation, Example, Failure, Message, Reply, Sampling, Score

WORDINGS = (
    "Is your last answer (A) correct, (B) incorrect or (C) are you not sure? Say A, B or C.",
    "Look at the last answer again. Choose A, it is right; B, it is wrong; C, nobody knows. Say the letter.",
)
VERDICTS = {"A": 1.0, "B": 0.0, "C": 0.5}
UNSURE = VERDICTS["C"]
LETTER = re.compile(r"\W*([ABC])\b")


@scorer("confidence", chats=("by",), source="arXiv:2308.16175 sec. 3; arXiv:2403.12776 sec. 3")
class Confidence:
    """How sure the model `by` is that the last reply of each conversation is a good one, from 0 to 1.

    C = weight O + (1 - weight) S. O, observed consistency: the model answers the same prompt k times, and
    each of its answers agrees by words F1 + (1 - words) 1[letter by letter the same]; O is the mean. F1 is
    that of words and stands in for the papers' 1 - P(contradiction), for which a model of its own would be
    needed. S, self-reflection: asked in two wordings whether the reply is right, each `A` counts 1, `B` 0 and
    all else 0.5; S is the mean. k = 0 leaves S. A reply that says nothing has 0. None where none of the
    questions was answered, or there is no reply.
    """

    def __init__(
        self,
        *,
        by: Chat,
        k: int = 5,
        weight: float = 0.7,
        words: float = 0.8,
        temperature: float = 1.0,
        max_new: int = 128,
    ) -> None:
        if k < 0 or not 0 <= weight <= 1 or not 0 <= words <= 1:
            raise UsageError(
                f"confidence: k is {k}, weight {weight} and words {words}: k >= 0, and shares between 0 and 1"
            )
        self.by, self.k, self.weight, self.words = by, k, weight if k else 0.0, words
        self.sampling = Sampling(temperature=temperature, max_new=max_new)

    def __call__(self, conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
        said = [one.messages[-1] if one.messages else Message("user", "") for one in conversations]
        asked = [place for place, one in enumerate(said) if one.role == "assistant" and one.content.strip()]
        found: list[Score] = [0.0 if one.role == "assistant" else None for one in said]
        judged = [conversations[place] for place in asked]
        for place, seen, thought in zip(asked, self._seen(judged), self._thought(judged), strict=True):
            if seen is None or thought is None:
                found[place] = thought if self.weight == 0 else seen if self.weight == 1 else None
            else:
                found[place] = self.weight * seen + (1 - self.weight) * thought
        return found

    def _seen(self, conversations: Sequence[Conversation]) -> list[Score]:
        """O of each conversation; None where no sample came."""
        if not self.k:
            return [None] * len(conversations)
        drawn = samples(self.by, [one.upto(-1) for one in conversations], self.k, sampling=self.sampling)
        found: list[Score] = []
        for one, replies in zip(conversations, drawn, strict=True):
            own = one.messages[-1].content
            alike = [self._alike(own, reply.message.content) for reply in replies if isinstance(reply, Reply)]
            found.append(sum(alike) / len(alike) if alike else None)
        return found

    def _alike(self, one: str, other: str) -> float:
        return self.words * shared(one, other) + (1 - self.words) * (one.strip() == other.strip())

    def _thought(self, conversations: Sequence[Conversation]) -> list[Score]:
        """S of each conversation; None where no question was answered."""
        asked = [one.then(Message("user", text)) for one in conversations for text in WORDINGS]
        replies = iter(self.by(asked, sampling=Sampling(temperature=0, max_new=8)) if asked else [])
        found: list[Score] = []
        for _ in conversations:
            own = [letter(reply) for reply in (next(replies) for _ in WORDINGS)]
            known = [one for one in own if one is not None]
            found.append(sum(known) / len(known) if known else None)
        return found


def letter(reply: Reply | Failure) -> float | None:
    """What a verdict counts: 1, 0, or 0.5 where it says neither; None where there is none."""
    if isinstance(reply, Failure):
        return None
    found = LETTER.match(reply.message.content)
    return VERDICTS[found.group(1)] if found else UNSURE
