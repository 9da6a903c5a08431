"""A chat made of an engine and a chat template: conversations in, replies out, ids kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from turnsmith import seeds
from turnsmith.errors import DataError, RenderError
from turnsmith.types import Completion, Conversation, Engine, Failure, Json, Message, Reply, Sampling, Usage

if TYPE_CHECKING:
    from turnsmith.data.render import Renderer

BROKEN = "\ufffd"  # what a decoder writes for bytes that are no character, or not yet one


@runtime_checkable
class Streaming(Protocol):
    """An engine that also gives the ids of a completion as they are drawn, and at the end the completion."""

    def stream(
        self, prompt: Sequence[int], *, sampling: Sampling, seed: int
    ) -> Generator[int, None, Completion]: ...


class LocalChat:
    """Answers conversations with what `engine` draws after the prompts that `renderer` makes.

    sampling: used where a call gives none. system: put first where a conversation has no system message.
    """

    def __init__(
        self,
        engine: Engine,
        renderer: Renderer,
        *,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        system: str | None = None,
    ) -> None:
        self.engine, self.renderer, self.sampling, self.system = engine, renderer, sampling, system

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        """One reply or failure per conversation, in their order.

        A reply depends on the seed, its conversation, and how many equal ones came before it in this call.
        """
        sampling = sampling or self.sampling
        prompts = [self._prompt(conversation, sampling) for conversation in conversations]
        given = [tuple(prompt) for prompt in prompts if not isinstance(prompt, Failure)]
        completions = iter(self.engine.generate(given, sampling=sampling, seeds=_seeds(given, seed)))
        return [
            prompt if isinstance(prompt, Failure) else self._reply(prompt, next(completions), asked.tools)
            for asked, prompt in zip(conversations, prompts, strict=True)
        ]

    def stream(
        self, conversation: Conversation, *, sampling: Sampling | None = None, seed: int = 0
    ) -> Generator[str, None, Reply]:
        """What the model writes in the reply that a call with this one conversation gives, thoughts and calls
        included, in pieces of whole characters.

        The generator's return value is the reply. Raises DataError where a call gives a Failure.
        """
        sampling = sampling or self.sampling
        prompt = self._prompt(conversation, sampling)
        if isinstance(prompt, Failure):
            raise DataError(prompt.reason)
        if not isinstance(self.engine, Streaming):
            raise DataError(f"{type(self.engine).__name__} gives whole replies only: call the chat instead.")
        (own,) = _seeds([tuple(prompt)], seed)
        return self._stream(
            prompt, self.engine.stream(prompt, sampling=sampling, seed=own), conversation.tools
        )

    def _stream(
        self,
        prompt: Sequence[int],
        tokens: Generator[int, None, Completion],
        tools: Sequence[Mapping[str, Json]],
    ) -> Generator[str, None, Reply]:
        ids: list[int] = []
        said, start, shown = 0, 0, 0  # characters given; ids[start:shown] are context of what is decoded next
        while True:
            try:
                ids.append(next(tokens))
            except StopIteration as end:
                reply = self._reply(prompt, end.value, tools)
                break
            before, text = self.renderer.text(ids[start:shown]), self.renderer.text(ids[start:])
            if len(text) > len(before) and not text.endswith(BROKEN):
                yield text[len(before) :]
                said += len(text) - len(before)
                start, shown = shown, len(ids)
        if rest := self.renderer.text(reply.message.ids or ())[said:]:
            yield rest
        return reply

    def _prompt(self, conversation: Conversation, sampling: Sampling) -> list[int] | Failure:
        asked = to_answer(conversation, self.system)
        if isinstance(asked, Failure):
            return asked
        try:
            prompt = self.renderer.prompt(asked)
        except RenderError as error:
            return Failure(str(error))
        context: int | None = getattr(self.engine, "context", None)
        if context is not None and len(prompt) + sampling.max_new > context:
            return Failure(
                f"the prompt has {len(prompt)} tokens and {sampling.max_new} may follow, but the model's "
                f"context ends at {context}"
            )
        return prompt

    def _reply(
        self, prompt: Sequence[int], completion: Completion, tools: Sequence[Mapping[str, Json]]
    ) -> Reply:
        message, _ = self.renderer.parse(completion.ids, tools)
        message = replace(message, logprobs=completion.logprobs)
        return Reply(message, completion.finish, Usage(len(prompt), len(completion.ids)))


def to_answer(conversation: Conversation, system: str | None) -> Conversation | Failure:
    """The conversation with the system text in front where it has none; a Failure where a chat cannot answer
    it."""
    messages = conversation.messages
    if system is not None and all(message.role != "system" for message in messages):
        messages = (Message("system", system), *messages)
    if not messages:
        return Failure("the conversation has no messages")
    if messages[-1].role == "assistant":
        return Failure("the last message is the assistant's: there is nothing to answer")
    if any(message.role == "text" for message in messages):
        return Failure("raw text has no turns: a chat cannot answer it")
    return replace(conversation, messages=messages)


def _seeds(prompts: Sequence[tuple[int, ...]], seed: int) -> list[int]:
    """A seed for each prompt, from its ids and from how many equal ones came before."""
    seen: Counter[tuple[int, ...]] = Counter()
    found = []
    for prompt in prompts:
        found.append(seeds.number(seed, "reply", " ".join(map(str, prompt)), seen[prompt]))
        seen[prompt] += 1
    return found
