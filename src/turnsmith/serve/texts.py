"""Text completions: what goes on from one prompt or several."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from turnsmith.errors import UsageError
from turnsmith.sample.chat import Text, numbers, written
from turnsmith.serve import wire
from turnsmith.serve.answering import Choice, events
from turnsmith.serve.batching import Coming
from turnsmith.serve.refusals import Refused
from turnsmith.serve.served import Served, begin, drawn
from turnsmith.types import Completion


@dataclass
class Texts:
    """The texts of one request for completions."""

    of: Served
    asked: wire.TextAsked
    prompts: list[list[int]]
    stops: tuple[str, ...]
    coming: list[Coming]

    @classmethod
    def begun(cls, of: Served, asked: wire.TextAsked) -> Texts:
        """Ask the engine. Raises UsageError for what is not offered, and what the engine raises."""
        if asked.echo and asked.logprobs is not None:
            raise UsageError(
                "echo with logprobs: those of the prompt are not computed; leave one of them out"
            )
        sampling = asked.sampling(asked.max_tokens or 16)
        renderer = of.chat.renderer
        prompts = [list(one) if not isinstance(one, str) else renderer.ids(one) for one in asked.prompts()]
        if not prompts or not all(prompts):
            raise Refused(400, "prompt: there is nothing to continue", param="prompt")
        told = of.chat.told(sampling, [])
        each = [prompt for prompt in prompts for _ in range(asked.n or 1)]
        seeds = numbers([written(prompt) for prompt in each], asked.number())
        coming = begin(
            of,
            [
                {"prompt": tuple(prompt), "sampling": sampling, "seed": seed, "ends": told.get("ends")}
                for prompt, seed in zip(each, seeds, strict=True)
            ],
        )
        return cls(of, asked, each, sampling.stop, coming)

    def _begun(self, number: int) -> str:
        return self.of.chat.renderer.text(self.prompts[number]) if self.asked.echo else ""

    async def whole(self) -> dict[str, Any]:
        """The answer."""
        choices = [
            {"index": number, **piece, "finish_reason": end}
            for number, coming in enumerate(self.coming)
            for piece, end in [self._choice(number, await coming.whole())]
        ]
        return {
            **wire.head("cmpl", self.of.name, "text_completion"),
            "choices": choices,
            "usage": self._usage(),
        }

    def _choice(self, number: int, completion: Completion) -> tuple[dict[str, Any], str]:
        renderer, logprobs = self.of.chat.renderer, None
        if self.asked.logprobs is not None:
            logprobs = wire.texts(renderer.texts(list(completion.ids)), completion)
        text = Text(renderer, self.stops).rest(completion)
        return {"text": self._begun(number) + text, "logprobs": logprobs}, wire.FINISH[completion.finish]

    def _usage(self) -> dict[str, int]:
        """Each prompt counts once, whatever `n` is."""
        read = sum(map(len, self.prompts)) // (self.asked.n or 1)
        return wire.usage(read, drawn(self.coming))

    async def streamed(self) -> AsyncIterator[bytes]:
        """The answer in pieces."""
        head = wire.head("cmpl", self.of.name, "text_completion")
        async for one in events(head, self.coming, self._pieces, self._usage, self.asked):
            yield one

    async def _pieces(self, number: int) -> AsyncIterator[Choice]:
        coming, text = self.coming[number], Text(self.of.chat.renderer, self.stops)

        def choice(piece: str, end: str | None = None) -> Choice:
            return {"index": number, "text": piece, "logprobs": None, "finish_reason": end}

        if begun := self._begun(number):
            yield choice(begun)
        async for id in coming:
            if piece := text.take(id):
                yield choice(piece)
        assert coming.completion is not None
        yield choice(text.rest(coming.completion), wire.FINISH[coming.completion.finish])
