"""Judging answers by a model that first writes what it thinks of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from turnsmith.registry import scorer
from turnsmith.scorers.reward_model import RewardModel
from turnsmith.types import Chat, Conversation, Example, Message, Reply, Sampling, Score

REQUEST = "Is this answer right, clear and complete? Say why."


@scorer("critic", chats=("writer",), models=("by",), source="arXiv:2502.10391 sec. 3 (MM-RLHF-Reward)")
class Critic:
    """What the model `by`, trained under `critique`, says of each conversation that `writer` has criticised.

    writer: who writes the critique that is put behind the answer, `by` itself as a rule, or a better one for
    what could be had at best. temperature: 0 takes the likeliest words. None where no critique came, or where
    it does not fit into `length` tokens with what it is about.
    """

    def __init__(
        self, *, by: str, writer: Chat, length: int = 2048, max_new: int = 128, temperature: float = 0.0
    ) -> None:
        self.writer, self.reward = writer, RewardModel(by=by, length=length)
        self.sampling = Sampling(temperature=temperature, max_new=max_new)

    def __call__(self, conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
        given = [asked(one) for one in conversations]
        replies = self.writer(given, sampling=self.sampling) if given else []
        came = [at for at, reply in enumerate(replies) if isinstance(reply, Reply)]
        said = [
            one.then(reply.message)
            for one, reply in zip(given, replies, strict=True)
            if isinstance(reply, Reply)
        ]
        found: list[Score] = [None] * len(given)
        for at, score in zip(came, self.reward(said, [examples[at] for at in came]), strict=True):
            found[at] = score
        return found


def asked(conversation: Conversation) -> Conversation:
    """The conversation, of which nothing learns, and the request to judge what was said last."""
    silent = (replace(message, weight=0.0, spans=()) for message in conversation.messages)
    return replace(conversation, messages=tuple(silent)).then(Message("user", REQUEST))
