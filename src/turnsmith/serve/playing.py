"""Answers that are there as a whole before any of it is sent, and are played as the stream they were asked
for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from turnsmith.data import messages
from turnsmith.sample.pieces import Gathering
from turnsmith.sample.wire import Trouble
from turnsmith.serve import wire
from turnsmith.serve.answering import Choice, events
from turnsmith.serve.batching import Coming
from turnsmith.serve.guarding import FILTERED, Guard, flagged, withheld
from turnsmith.serve.keeping import Kept, Unkept
from turnsmith.serve.passing import Behind
from turnsmith.serve.refusals import Refused
from turnsmith.types import Conversation, Message

Kind = Literal["chat", "text"]
PATHS: Mapping[Kind, str] = {"chat": "chat/completions", "text": "completions"}
Body = dict[str, Any]
Make: TypeAlias = "Callable[[Played], Awaitable[Body]]"
Flow: TypeAlias = "Callable[[Played], AsyncIterator[Choice]] | None"


@dataclass
class Played:
    """The answer to one request, as `make` gives its choices and its usage. conversations: what each reply
    goes on from. flow: the choices as they come, for a stream that need not wait for its end."""

    name: str
    kind: Kind
    asked: wire.ChatAsked | wire.TextAsked
    conversations: list[Conversation]
    make: Make
    flow: Flow = None
    kept: Kept = field(default_factory=Unkept)
    coming: Sequence[Coming] = ()

    async def whole(self) -> Body:
        """The answer."""
        made = await self.make(self)
        for number, choice in enumerate(made["choices"]):
            choice |= _id(self, number)
        return {**self._head(""), **made}

    def streamed(self) -> AsyncIterator[bytes]:
        """The same as events."""
        made: Body = {}

        async def flowing() -> AsyncIterator[Choice]:
            assert self.flow is not None
            async for choice in self.flow(self):
                made["usage"] = choice.pop("usage", None) or made.get("usage")
                if choice:
                    yield choice

        async def pieces() -> AsyncIterator[Choice]:
            made.update(await self.whole())
            for choice in made["choices"]:
                for piece in _pieces(choice) if self.kind == "chat" else [choice]:
                    yield piece

        def usage() -> dict[str, int]:
            return made.get("usage") or wire.usage(0, 0)

        maker = flowing if self.flow else pieces
        return events(self._head(".chunk"), [], [maker], usage, self.asked, self.kept)

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


async def flowing(behind: Behind, body: Body, of: Played) -> AsyncIterator[Choice]:
    """The same as it comes, without a judgement: each piece is kept before it is sent. What a piece says of
    usage is under `usage`."""
    wanted = {**body, "stream": True, "stream_options": {"include_usage": True}}
    gathered = [Gathering() for _ in of.conversations]
    begun: set[int] = set()
    async for chunk in behind.chunks(PATHS[of.kind], wanted):
        if chunk.get("usage"):
            yield {"usage": chunk["usage"]}
        for choice in chunk.get("choices") or []:
            number = int(choice.get("index") or 0)
            if number >= len(gathered):
                continue
            as_chat = choice if "delta" in choice else {**choice, "delta": {"content": choice.get("text")}}
            try:
                piece = gathered[number].take({"choices": [as_chat]}, str)
                if piece:
                    await of.kept.piece(number, piece)
                if choice.get("finish_reason"):
                    await _ended(of, number, gathered[number].whole()["choice"])
            except Trouble as error:
                raise Refused(502, str(error), kind="server_error") from None
            yield choice | (_id(of, number) if number not in begun else {})
            begun.add(number)


async def _ended(of: Played, number: int, choice: Choice) -> None:
    """Keep a reply that has come to its end."""
    text = Message("text", choice["message"].get("content") or "")
    said = _said(choice) if of.kind == "chat" else text
    await of.kept.ended(number, said, choice["finish_reason"])


def _id(of: Played, number: int) -> dict[str, str]:
    """By which a reply is judged, where it is kept."""
    return {"message_id": of.kept.ids[number]} if of.kept.ids else {}


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
