"""A panel of chats: several answer, see each other's answers, and one writes a single answer of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from turnsmith import seeds
from turnsmith.errors import UsageError
from turnsmith.registry import agent
from turnsmith.types import Chat, Conversation, Failure, Message, Reply, Sampling, Usage

ASKED = (
    "Others have answered the last message:\n\n{answers}\n\nParts of this may be wrong. Write one answer "
    "that is better than each of them, and do not speak of the others."
)


@agent(
    "panel", chats=("by", "first", "second", "third"), source="arXiv:2406.04692 sec. 2.2; prompt of our own"
)
class Panel:
    """Up to three chats answer in `layers` layers, each given all answers of the layer before; `by` writes
    one answer of those of the last layer (mixture of agents).

    Answers are told in the system text, behind what stands there. One that did not come is left out; where
    none came in a layer the conversation is a Failure. The tokens of all count as used. Raises UsageError
    unless there is a layer.
    """

    def __init__(
        self, *, by: Chat, first: Chat, second: Chat | None = None, third: Chat | None = None, layers: int = 1
    ) -> None:
        if layers < 1:
            raise UsageError(f"panel: layers is {layers}: at least one layer has to answer")
        self.by, self.layers = by, layers
        self.members = [one for one in (first, second, third) if one is not None]

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        told, used = list(conversations), [Usage(0, 0) for _ in conversations]
        lost: dict[int, Failure] = {}
        for layer in range(self.layers):
            drawn = [
                one(told, sampling=sampling, seed=seeds.number(seed, "panel", layer, number))
                for number, one in enumerate(self.members)
            ]
            for place, replies in enumerate(zip(*drawn, strict=True)):
                said = [reply for reply in replies if isinstance(reply, Reply)]
                used[place] = _sum([used[place], *(reply.usage for reply in said)])
                if said:
                    told[place] = told_of(conversations[place], [reply.message.content for reply in said])
                else:
                    lost.setdefault(place, next(one for one in replies if isinstance(one, Failure)))
        found = self.by(told, sampling=sampling, seed=seeds.number(seed, "panel", "by"))
        return [
            lost.get(place)
            or (replace(one, usage=_sum([used[place], one.usage])) if isinstance(one, Reply) else one)
            for place, one in enumerate(found)
        ]


def told_of(conversation: Conversation, answers: Sequence[str]) -> Conversation:
    """The conversation of somebody who is told in the system text what others have answered."""
    listed = "\n\n".join(f"{number}. {answer}" for number, answer in enumerate(answers, start=1))
    text, messages = ASKED.format(answers=listed), conversation.messages
    if messages and messages[0].role == "system":
        first = replace(messages[0], content=f"{messages[0].content}\n\n{text}")
        return replace(conversation, messages=(first, *messages[1:]))
    return replace(conversation, messages=(Message("system", text), *messages))


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(sum(one.prompt for one in usages), sum(one.completion for one in usages))
