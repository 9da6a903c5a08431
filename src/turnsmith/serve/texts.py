"""Text completions: what goes on from one prompt or several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from turnsmith.errors import TurnsmithError, UsageError
from turnsmith.sample.chat import Text, numbers, written
from turnsmith.sample.joining import Joining
from turnsmith.serve import wire
from turnsmith.serve.answering import Choice, events
from turnsmith.serve.batching import Coming
from turnsmith.serve.guarding import FILTERED, Guard, flagged, withheld
from turnsmith.serve.keeping import Kept, Unkept
from turnsmith.serve.refusals import Refused
from turnsmith.serve.served import Served, begin, drawn
from turnsmith.types import Completion, Conversation, Message

USUAL = 16  # tokens where the request does not say, as OpenAI has it


@dataclass
class Texts:
    """The texts of one request for completions, `n` to each prompt. read: of each prompt its own log-probs,
    where these are asked for. coming: none where nothing is to be drawn."""

    of: Served
    asked: wire.TextAsked
    prompts: list[list[int]]
    read: list[asyncio.Future[Completion]]
    coming: list[Coming]
    kept: Kept = field(default_factory=Unkept)
    guards: Sequence[Guard] = ()

    @classmethod
    def begun(cls, of: Served, asked: wire.TextAsked) -> Texts:
        """Ask the engine. Raises UsageError for what makes no sense, and what the engine raises."""
        renderer = of.chat.renderer
        prompts = [list(one) if not isinstance(one, str) else renderer.ids(one) for one in asked.prompts()]
        if not prompts or not all(prompts):
            raise Refused(400, "prompt: there is nothing to continue", param="prompt")
        if asked.max_tokens == 0 and not asked.echo:
            raise UsageError("max_tokens is 0, and without `echo` there is nothing to say: raise it")
        read: list[asyncio.Future[Completion]] = []
        try:
            for prompt in prompts if asked.echo and asked.logprobs is not None else ():
                told = partial(Joining.echo, prompt=prompt, best=asked.logprobs or 0, adapter=of.reader)
                read.append(of.batching.between(told))
            coming = [] if asked.max_tokens == 0 else cls._drawn(of, asked, prompts)
        except TurnsmithError:
            for one in read:
                one.cancel()
            raise
        return cls(of, asked, prompts, read, coming)

    @staticmethod
    def _drawn(of: Served, asked: wire.TextAsked, prompts: list[list[int]]) -> list[Coming]:
        sampling = asked.sampling(asked.max_tokens or USUAL)
        told = of.chat.told(sampling, [])
        each = [prompt for prompt in prompts for _ in range(asked.n or 1)]
        own = numbers([written(prompt) for prompt in each], asked.number())
        more = {"sampling": sampling, "ends": told.get("ends"), "best": asked.logprobs or 0}
        both = zip(each, own, strict=True)
        return begin(of, [{"prompt": tuple(prompt), "seed": seed, **more} for prompt, seed in both])

    @property
    def count(self) -> int:
        """How many texts are asked for."""
        return len(self.prompts) * (self.asked.n or 1)

    @property
    def conversations(self) -> list[Conversation]:
        """What each text goes on from, as it is kept."""
        prompts = [self.of.chat.renderer.text(self._prompt(number)) for number in range(self.count)]
        return [Conversation((Message("text", text),)) for text in prompts]

    async def _ended(self, number: int, drawn: Completion | None) -> str | None:
        """Judge and keep a text; gives the guard that flags it."""
        ids, logprobs = (drawn.ids, drawn.logprobs) if drawn else ((), ())
        text = Text(self.of.chat.renderer, self.asked.stops).rest(drawn) if drawn else ""
        said = Message("text", text, ids=ids, logprobs=logprobs)
        name = await flagged(self.guards, self.conversations[number], said) if self.guards else None
        finish = wire.FINISH[drawn.finish] if drawn else "length"
        await self.kept.ended(number, said, FILTERED if name else finish, flagged=name)
        return name

    def _prompt(self, number: int) -> list[int]:
        return self.prompts[number // (self.asked.n or 1)]

    def _begun(self, number: int) -> str:
        return self.of.chat.renderer.text(self._prompt(number)) if self.asked.echo else ""

    async def _logprobs(self, number: int, drawn: list[Completion]) -> dict[str, Any] | None:
        """The log-probs of what was drawn, and before them those of the prompt, where they are asked for."""
        if self.asked.logprobs is None:
            return None
        renderer = self.of.chat.renderer
        before = [await self.read[number // (self.asked.n or 1)]] if self.read else []
        ids = self._prompt(number) if self.read else []
        pieces = renderer.texts([*ids, *(id for one in drawn for id in one.ids)])
        return wire.texts([*before, *drawn], pieces, renderer.token, self.asked.logprobs)

    async def whole(self) -> dict[str, Any]:
        """The answer."""
        choices: list[Choice] = []
        for number in range(self.count):
            drawn = [await self.coming[number].whole()] if self.coming else []
            text = "".join(Text(self.of.chat.renderer, self.asked.stops).rest(one) for one in drawn)
            logprobs = await self._logprobs(number, drawn)
            choice = {"index": number, "text": self._begun(number) + text, "logprobs": logprobs}
            choice["finish_reason"] = wire.FINISH[drawn[0].finish] if drawn else "length"
            name = await self._ended(number, drawn[0] if drawn else None)
            choices.append(withheld(number, name, chat=False) if name else choice)
        head = wire.head("cmpl", self.of.name, "text_completion")
        return {**head, "choices": choices, "usage": self._usage()}

    def _usage(self) -> dict[str, int]:
        """Each prompt counts once, whatever `n` is."""
        return wire.usage(sum(map(len, self.prompts)), drawn(self.coming))

    def streamed(self) -> AsyncIterator[bytes]:
        """The answer in pieces; log-probs come with the last one."""
        head = wire.head("cmpl", self.of.name, "text_completion")
        makers = [partial(self._pieces, number) for number in range(self.count)]
        return events(head, self.coming, makers, self._usage, self.asked, self.kept)

    async def _pieces(self, number: int) -> AsyncIterator[Choice]:
        text = Text(self.of.chat.renderer, self.asked.stops)

        def choice(piece: str, logprobs: Any = None, end: str | None = None) -> Choice:
            return {"index": number, "text": piece, "logprobs": logprobs, "finish_reason": end}

        begun = self._begun(number)
        if begun and not self.guards:
            yield choice(begun)
        drawn: Completion | None = None
        if self.coming:
            async for id in self.coming[number]:
                piece = "" if self.guards else text.take(id)
                if piece:
                    await self.kept.piece(number, piece)
                    yield choice(piece)
            drawn = self.coming[number].completion
        if name := await self._ended(number, drawn):
            yield withheld(number, name, chat=False)
            return
        rest = text.rest(drawn) if drawn else ""
        end = wire.FINISH[drawn.finish] if drawn else "length"
        logprobs = await self._logprobs(number, [drawn] if drawn else [])
        yield choice(begun + rest if self.guards else rest, logprobs, end)
