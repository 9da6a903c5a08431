"""A conversation with a model that remembers what was said."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from turnsmith.types import Conversation, Message, Reply, Sampling


class Streams(Protocol):
    """A chat that gives a reply in pieces, and at the end the reply."""

    def stream(
        self, conversation: Conversation, *, sampling: Sampling | None = None, seed: int = 0
    ) -> Generator[str, None, Reply]: ...


@dataclass
class Talk:
    """One conversation with a chat. said: all of it so far. sampling: the chat's own where None.

    >>> import turnsmith
    >>> talk = turnsmith.Talk(turnsmith.chat("smollm2-135m-instruct"))                    # doctest: +SKIP
    >>> print(talk.say("What is a fjord?"), talk.say("And the deepest one?"))             # doctest: +SKIP
    """

    chat: Streams
    sampling: Sampling | None = None
    seed: int = 0
    said: Conversation = Conversation(())  # noqa: RUF009 - frozen

    def say(self, text: str) -> str:
        """What the model answers."""
        return "".join(self.stream(text))

    def stream(self, text: str) -> Generator[str]:
        """The answer in pieces; it is remembered when the last one has been taken."""
        asked = self.said.then(Message("user", text))
        reply = yield from self.chat.stream(asked, sampling=self.sampling, seed=self.seed)
        self.said = asked.then(reply.message)

    def reset(self, system: str | None = None) -> None:
        """Forget everything; a system text opens the new conversation."""
        self.said = Conversation((Message("system", system),) if system else ())
