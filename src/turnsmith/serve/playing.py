"""Answers that are there as a whole before any of it is sent, and are played as the stream they were asked
for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from turnsmith.data import messages
from turnsmith.serve import wire
from turnsmith.serve.answering import Choice, events
from turnsmith.serve.batching import Coming
from turnsmith.serve.guarding import FILTERED, Guard, flagged, withheld
from turnsmith.serve.keeping import Kept, Unkept
from turnsmith.serve.passing import Behind
from turnsmith.types import Conversation, Message

Kind = Literal["chat", "text"]
PATHS: Mapping[Kind, str] = {"chat": "chat/completions", "text": "completions"}
Body = dict[str, Any]


@dataclass
class Played:
    """The answer to one request, as `make` gives its choices and its usage. conversations: what each reply
    goes on from."""

    name: str
    kind: Kind
    asked: wire.ChatAsked | wire.TextAsked
    conversations: list[Conversation]
    make: Callable[[Played], Awaitable[Body]]
    kept: Kept = field(default_factory=Unkept)
    coming: Sequence[Coming] = ()

    async def whole(self) -> Body:
        """The answer."""
        made = await self.make(self)
        for number, choice in enumerate(made["choices"]):
            choice |= {"message_id": self.kept.ids[number]} if self.kept.ids else {}
        return {**self._head(""), **made}

    def streamed(self) -> AsyncIterator[bytes]:
        """The same as events."""
        made: Body = {}

        async def pieces() -> AsyncIterator[Choice]:
            made.update(await self.whole())
            for choice in made["choices"]:
                for piece in _pieces(choice) if self.kind == "chat" else [choice]:
                    yield piece

        def usage() -> dict[str, int]:
            return made["usage"]

        return events(self._head(".chunk"), [], [pieces], usage, self.asked, self.kept)

    def _head(self, form: str) -> Body:
        if self.kind == "chat":
            return wire.head("chatcmpl", self.name, f"chat.completion{form}")
        return wire.head("cmpl", self.name, "text_completion")


async def refused(name: str, of: Played) -> Body:
    """What is answered to a request that the guard of this name has flagged; no model has read it."""
    for number in range(len(of.conversations)):
        await of.kept.ended(number, Message("assistant", ""), FILTERED, flagged=name)
    choices = [withheld(number, name, chat=of.kind == "chat") for number in range(len(of.conversations))]
    return {"choices": choices, "usage": wire.usage(0, 0)}


async def passed(behind: Behind, body: Body, guards: Sequence[Guard], of: Played) -> Body:
    """What the model of another server answers, judged and kept."""
    plain = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
    found = await behind.whole(PATHS[of.kind], plain)
    choices: list[Choice] = list(found.get("choices") or [])
    both = zip(choices, of.conversations, strict=False)
    for number, (choice, conversation) in enumerate(both):
        said = _said(choice)
        name = await flagged(guards, conversation, said)
        finish = FILTERED if name else str(choice.get("finish_reason"))
        await of.kept.ended(number, said, finish, flagged=name)
        if name:
            choices[number] = withheld(number, name, chat=of.kind == "chat")
    return {"choices": choices[: len(of.conversations)], "usage": found.get("usage") or wire.usage(0, 0)}


def _said(choice: Mapping[str, Any]) -> Message:
    """The message of a choice. Raises DataError where it is none."""
    given: Any = choice.get("message")
    if given is None:
        return Message("text", str(choice.get("text") or ""))
    kept = {
        name: value for name, value in given.items() if name in ("tool_calls", "reasoning_content") and value
    }
    return messages.message({"role": "assistant", "content": given.get("content") or "", **kept}, "the reply")


def _pieces(choice: Mapping[str, Any]) -> list[Choice]:
    """What is said, and how it ended."""
    delta = {name: value for name, value in choice["message"].items() if value is not None}
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": at, **call} for at, call in enumerate(delta["tool_calls"])]
    said = {**choice, "delta": delta, "logprobs": choice.get("logprobs"), "finish_reason": None}
    del said["message"]
    end = {"delta": {}, "logprobs": None, "finish_reason": choice["finish_reason"]}
    return [said, {"index": choice["index"], **end}]
