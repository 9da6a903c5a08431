"""A customer who says what it wants only when it is asked: a game of two in which an early question pays."""

from __future__ import annotations

from collections.abc import Sequence

from turnsmith.errors import UsageError
from turnsmith.registry import agent
from turnsmith.types import Conversation, Failure, Reply, Sampling

GOODS = ("tea", "jam", "pie", "nut")
HELLO, ASK, YES, NO = "hello", "which?", "yes", "no"


@agent("customer")
class Customer:
    """Wants what its system text names. Asked `which?` it says so, to that thing it says `yes`, and to
    everything else `no`.

    Raises UsageError where a conversation has no system text.
    """

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        return [self._reply(one) for one in conversations]

    def _reply(self, seen: Conversation) -> Reply:
        told = [message.content for message in seen.messages if message.role == "system"]
        if not told:
            raise UsageError(
                "agent 'customer' is not told what it wants: name with `profile` the key of the metadata "
                "where that stands"
            )
        said = answer(told[-1], seen.messages[-1].content)
        return Reply.scripted(said)


def answer(wish: str, said: str) -> str:
    """What a customer with this wish says to what was said last."""
    if said.strip() == ASK:
        return wish
    return YES if said.strip() == wish else NO
