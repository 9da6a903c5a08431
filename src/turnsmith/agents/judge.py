"""Who asks two chats, and gives the better of their replies, or one that is made of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from turnsmith.agents.rag import filled, last_of
from turnsmith.errors import UsageError
from turnsmith.registry import agent
from turnsmith.types import Chat, Conversation, Example, Failure, Message, Reply, Sampling, Scorer

Answer: TypeAlias = "Reply | Failure"

MERGED = (
    "{question}\n\nTwo answers were given.\nFirst: {first}\nSecond: {second}\n"
    "Say in one answer what is right in them."
)


@agent("judge", chats=("retrieval", "tuned", "merge"), scorers=("by",), source="arXiv:2402.17081")
class Judge:
    """Has two chats answer, and gives the reply that the scorer `by` puts higher, of equals the first.

    retrieval, tuned: the chats, e.g. the agent `rag` and a model that was tuned on the same rows. by: e.g.
    `{influence: {by: MODEL}}`. merge: a chat that is asked to make one reply of both, in place of `by`; the
    paper leaves open how. Where one of the two cannot answer, or its reply cannot be judged, the other one's
    counts; where neither can, it is a Failure. Raises UsageError unless one of `by` and `merge` is given.
    """

    def __init__(
        self, *, retrieval: Chat, tuned: Chat, by: Scorer | None = None, merge: Chat | None = None
    ) -> None:
        if (by is None) == (merge is None):
            raise UsageError("judge: give either `by`, a scorer that chooses, or `merge`, a chat that merges")
        self.retrieval, self.tuned, self.by, self.merge = retrieval, tuned, by, merge

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        first = self.retrieval(conversations, sampling=sampling, seed=seed)
        second = self.tuned(conversations, sampling=sampling, seed=seed)
        if self.by is not None:
            chosen = better(self.by, conversations, first, second)
            return [pair[place] for place, pair in zip(chosen, zip(first, second, strict=True), strict=True)]
        return self._merged(conversations, first, second, sampling, seed)

    def _merged(
        self,
        conversations: Sequence[Conversation],
        first: Sequence[Answer],
        second: Sequence[Answer],
        sampling: Sampling | None,
        seed: int,
    ) -> list[Answer]:
        found = [other if isinstance(one, Failure) else one for one, other in zip(first, second, strict=True)]
        both = [at for at, pair in enumerate(zip(first, second, strict=True)) if not _failed(pair)]
        asked = [_both(conversations[at], first[at], second[at]) for at in both]
        assert self.merge is not None
        made = self.merge(asked, sampling=sampling, seed=seed) if asked else []
        for at, reply in zip(both, made, strict=True):
            found[at] = reply
        return found


def better(
    by: Scorer, conversations: Sequence[Conversation], first: Sequence[Answer], second: Sequence[Answer]
) -> list[int]:
    """For each conversation 0 where the scorer puts the first reply higher, or as high, and 1 where the
    second. Replies that did not come or cannot be judged are below all others."""
    replies = [reply for pair in zip(first, second, strict=True) for reply in pair]
    said = [
        conversation.then(reply.message)
        for conversation, reply in zip([one for one in conversations for _ in (0, 1)], replies, strict=True)
        if isinstance(reply, Reply)
    ]
    examples = [Example({"text": one}, {}, {"id": str(at)}) for at, one in enumerate(said)]
    scores = iter(by(said, examples) if said else [])
    worth = [next(scores) if isinstance(reply, Reply) else None for reply in replies]
    ranks = [
        (isinstance(reply, Reply), score is not None, score or 0.0)
        for reply, score in zip(replies, worth, strict=True)
    ]
    return [int(one < other) for one, other in zip(ranks[0::2], ranks[1::2], strict=True)]


def _failed(pair: tuple[Answer, Answer]) -> bool:
    return any(isinstance(one, Failure) for one in pair)


def _both(conversation: Conversation, first: Answer, second: Answer) -> Conversation:
    """What the chat that merges is asked."""
    assert isinstance(first, Reply)
    assert isinstance(second, Reply)
    place = last_of(conversation, "user")
    before = conversation if place is None else conversation.upto(place)
    said = {
        "{question}": "" if place is None else conversation.messages[place].content,
        "{first}": first.message.content,
        "{second}": second.message.content,
    }
    return before.then(Message("user", filled(MERGED, said)))
