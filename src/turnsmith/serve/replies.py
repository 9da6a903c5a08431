"""Chat completions: the replies to one conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from turnsmith.sample.chat import Asked, Text, numbers, written
from turnsmith.serve import wire
from turnsmith.serve.answering import Choice, events
from turnsmith.serve.batching import Coming
from turnsmith.serve.guarding import FILTERED, Guard, flagged, refusal, withheld
from turnsmith.serve.keeping import Kept, Unkept
from turnsmith.serve.refusals import Refused
from turnsmith.serve.served import Served, begin, drawn
from turnsmith.types import Completion, Conversation, Failure, Reply, Sampling

MOST_NEW = 512  # tokens of a reply where the request does not say; fewer where the context ends before


@dataclass
class Replies:
    """The replies to one request for a chat."""

    of: Served
    asked: wire.ChatAsked
    conversation: Conversation
    sampling: Sampling
    prompt: list[int]
    guides: list[Any]
    coming: list[Coming]
    kept: Kept = field(default_factory=Unkept)
    guards: Sequence[Guard] = ()

    @classmethod
    def begun(cls, of: Served, conversation: Conversation, asked: wire.ChatAsked) -> Replies:
        """Ask the engine. Raises Refused where the conversation cannot be answered."""
        prompt, sampling = _prompt(of, conversation, asked)
        count = asked.n or 1
        told = of.chat.told(sampling, [prompt] * count)
        guides = told.get("guides") or [None] * count
        beside = {name: ids[0] for name, ids in told.get("beside", {}).items()}
        seeds = numbers([written(prompt.ids)] * count, asked.number())
        coming = begin(
            of,
            [
                {"prompt": tuple(prompt.ids), "sampling": sampling, "seed": seed, "guide": guide}
                | {"ends": told.get("ends"), "beside": beside or None, "best": asked.top_logprobs or 0}
                for seed, guide in zip(seeds, guides, strict=True)
            ],
        )
        return cls(of, asked, conversation, sampling, prompt.ids, guides, coming)

    def reply(self, number: int, completion: Completion) -> Reply:
        """What these ids say as the reply of this number. Raises Refused where they are none."""
        found = self.of.chat.reply(
            self.prompt, completion, self.guides[number], self.conversation, self.sampling
        )
        if isinstance(found, Failure):
            raise Refused(500, found.reason, kind="server_error")
        if self.asked.parallel_tool_calls is False:
            found = replace(found, message=replace(found.message, calls=found.message.calls[:1]))
        return found

    def _logprobs(self, completion: Completion) -> dict[str, Any] | None:
        if not self.asked.logprobs:
            return None
        renderer = self.of.chat.renderer
        return wire.logprobs(completion, renderer.texts(completion.ids), renderer.token)

    async def whole(self) -> dict[str, Any]:
        """The answer."""
        choices: list[Choice] = []
        for number, coming in enumerate(self.coming):
            completion = await coming.whole()
            reply = self.reply(number, completion)
            logprobs = self._logprobs(completion)
            choice = {"index": number, "message": wire.said(reply.message), "logprobs": logprobs}
            choice["finish_reason"] = wire.finish(reply)
            if name := await self._ended(number, reply):
                choice = withheld(number, name, chat=True)
            choices.append({**choice, **self._id(number)})
        found = wire.head("chatcmpl", self.of.name, "chat.completion")
        return {**found, "choices": choices, "usage": self._usage()}

    def streamed(self) -> AsyncIterator[bytes]:
        """The answer in pieces. Where tools may be called or guards judge, a reply comes when it has ended:
        until then nobody knows whether it is a call, or may be sent."""
        head = wire.head("chatcmpl", self.of.name, "chat.completion.chunk")
        makers = [partial(self._pieces, number) for number in range(len(self.coming))]
        return events(head, self.coming, makers, self._usage, self.asked, self.kept)

    async def _ended(self, number: int, reply: Reply) -> str | None:
        """Judge and keep a reply; gives the guard that flags it."""
        name = await flagged(self.guards, self.conversation, reply.message)
        finish = FILTERED if name else wire.finish(reply)
        await self.kept.ended(number, reply.message, finish, flagged=name)
        return name

    def _id(self, number: int) -> dict[str, str]:
        """By which a reply is judged, where it is kept."""
        return {"message_id": self.kept.ids[number]} if self.kept.ids else {}

    def _usage(self) -> dict[str, int]:
        return wire.usage(len(self.prompt), drawn(self.coming))

    async def _pieces(self, number: int) -> AsyncIterator[Choice]:
        coming, text = self.coming[number], Text(self.of.chat.renderer, self.sampling.stop)

        def choice(delta: dict[str, Any], logprobs: Any = None, end: str | None = None) -> Choice:
            return {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": end}

        yield {**choice({"role": "assistant", "content": ""}), **self._id(number)}
        held = bool(self.conversation.tools or self.guards)
        async for id in coming:
            piece = "" if held else text.take(id)
            if piece:
                await self.kept.piece(number, piece)
                yield choice({"content": piece})
        assert coming.completion is not None
        reply = self.reply(number, coming.completion)
        if name := await self._ended(number, reply):
            yield choice({"refusal": refusal(name)})
            yield choice({}, end=FILTERED)
            return
        if held and reply.message.thinking:
            yield choice({"reasoning_content": reply.message.thinking})
        rest = reply.message.content if held else text.rest(coming.completion)
        if rest:
            yield choice({"content": rest})
        if reply.message.calls:
            made = [{"index": at, **call} for at, call in enumerate(wire.calls(reply.message))]
            yield choice({"tool_calls": made})
        yield choice({}, self._logprobs(coming.completion), wire.finish(reply))


def _prompt(of: Served, conversation: Conversation, asked: wire.ChatAsked) -> tuple[Asked, Sampling]:
    """What the engine goes on from, and how the reply is drawn; where the request does not say how long it
    may be, as the context allows. Raises Refused where the conversation cannot be answered."""
    sampling = asked.how(1)
    if forced := asked.forced():
        from turnsmith.sample.calling import call_grammar

        sampling = replace(sampling, grammar=call_grammar(of.chat.renderer, forced))
    prompt = of.chat.prompt(conversation, sampling)
    if isinstance(prompt, Failure):
        raise Refused(400, prompt.reason, param="messages")
    if not (asked.max_tokens or asked.max_completion_tokens):
        left = of.batching.capacity - prompt.longest
        sampling = replace(sampling, max_new=max(1, min(MOST_NEW, left)))
    return prompt, sampling
