"""A model that is heard while it speaks: slices of time, by turns the user's and its own (duplex models)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from turnsmith.sample.talk import Streams
from turnsmith.types import Conversation, Message, Sampling

IDLE = ""  # what is said in a slice by who is silent
SLICE = Sampling(temperature=0.8, top_p=0.8, max_new=15)  # thunlp/duplex-model


@dataclass
class Live:
    """One conversation in slices. said: all of it so far, without the slices in which nobody spoke. on:
    whether the model is asked; it is from when the user speaks until nobody does.

    A user's slice is handed in by `heard`, which gives what the model is to be asked, and the model's is
    taken down by `spoke`. So many conversations can be asked in one call. Source: arXiv:2406.15718 sec. 3 and
    thunlp/duplex-model.

    >>> live = Live()
    >>> live.heard("")  # nobody has spoken yet: there is nothing to ask
    >>> [message.content for message in live.heard("what is").messages]
    ['what is']
    >>> live.spoke("")
    >>> [message.content for message in live.heard("").messages]
    ['what is', '', '']
    >>> live.spoke("")  # nobody spoke: this slice is forgotten, and the model is not asked again
    >>> live.on, len(live.said.messages)
    (False, 2)
    """

    said: Conversation = Conversation(())  # noqa: RUF009 - frozen
    on: bool = False

    def heard(self, text: str) -> Conversation | None:
        """The conversation that the model is to go on from after this slice of the user's; None where it is
        not to be asked."""
        self.on = self.on or bool(text.strip())
        if not self.on:
            return None
        self.said = tidied(self.said).then(Message("user", text.strip()))
        return self.said

    def spoke(self, text: str) -> None:
        """Take down what the model said to the slice that was heard last, IDLE for nothing."""
        said = text if text.strip() else IDLE
        self.on = bool(said or self.said.messages[-1].content)
        self.said = tidied(self.said.then(Message("assistant", said)))

    def stream(
        self, chat: Streams, text: str, *, sampling: Sampling = SLICE, seed: int = 0
    ) -> Generator[str]:
        """What `chat` says in this slice, in pieces. Where it cannot, or the caller gives up, the user's
        slice is not remembered. Raises DataError where the conversation is too long for the model."""
        before = replace(self)
        asked = self.heard(text)
        if asked is None:
            return
        done = False
        try:
            reply = yield from chat.stream(asked, sampling=sampling, seed=seed)
            self.spoke(reply.message.content)
            done = True
        finally:
            if not done:
                self.said, self.on = before.said, before.on


def tidied(conversation: Conversation) -> Conversation:
    """The conversation without the slices in which nobody spoke. Whatever was said stays."""
    kept: list[Message] = []
    for message in conversation.messages:
        kept.append(message)
        if [(one.role, one.content) for one in kept[-2:]] == [("user", IDLE), ("assistant", IDLE)]:
            del kept[-2:]
    return replace(conversation, messages=tuple(kept))
