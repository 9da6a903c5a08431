"""A chat made of an engine and a chat template: conversations in, replies out, ids kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from turnsmith import seeds
from turnsmith.errors import DataError, ModelError, RenderError
from turnsmith.phases import phase
from turnsmith.types import (
    Chat,
    Completion,
    Conversation,
    Engine,
    Failure,
    Message,
    Reply,
    Sampling,
    Usage,
)

if TYPE_CHECKING:
    from turnsmith.data.render import Renderer
    from turnsmith.sample.guides import Guide, Vocabulary

TAIL = 4  # ids for each character of a text to stop at, which are decoded to find it: UTF-8 has no more bytes
BROKEN = "\ufffd"  # what a decoder writes for bytes that are no character, or not yet one


@runtime_checkable
class Streaming(Protocol):
    """An engine that also gives the ids of a completion as they are drawn, and at the end the completion."""

    def stream(
        self, prompt: Sequence[int], *, sampling: Sampling, seed: int
    ) -> Generator[int, None, Completion]: ...


@runtime_checkable
class Spelling(Protocol):
    """A chat that says what each of the tokens that it drew stands for."""

    def spelled(self, ids: Sequence[int]) -> list[str]: ...


class Asked(NamedTuple):
    """A prompt as ids, and as those of models that speak in step and have other templates, by name."""

    ids: list[int]
    beside: dict[str, list[int]]

    @property
    def longest(self) -> int:
        """Tokens of the longest."""
        return max(map(len, (self.ids, *self.beside.values())))


def mute(name: str) -> Chat:
    """What stands in the place of a chat for a model that reads and does not answer. Raises ModelError when
    it is asked."""

    def refuse(
        conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        raise ModelError(
            f"{name} is an encoder: it reads and judges conversations, and answers none. Ask a causal "
            "language model"
        )

    return refuse


class LocalChat:
    """Answers conversations with what `engine` draws after the prompts that `renderer` makes.

    sampling: used where a call gives none. system: put first where a conversation has no system message.
    over: what is done with a conversation that does not fit into the model's context: it is a Failure
    (`fail`), or its oldest turns are left out, whole ones and never the system's (`oldest`).
    """

    def __init__(
        self,
        engine: Engine,
        renderer: Renderer,
        *,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        system: str | None = None,
        over: Literal["fail", "oldest"] = "fail",
    ) -> None:
        self.engine, self.renderer, self.sampling, self.system = engine, renderer, sampling, system
        self.over = over
        self._vocabulary: Vocabulary | None = None

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        """One reply or failure per conversation, in their order.

        A reply depends on the seed, its conversation, and how many equal ones came before it in this call.
        """
        sampling = sampling or self.sampling
        prompts = [self.prompt(conversation, sampling) for conversation in conversations]
        own = numbers([written(one.ids) for one in prompts if not isinstance(one, Failure)], seed)
        return self._replies(conversations, prompts, own, sampling)

    def by_seeds(
        self,
        conversations: Sequence[Conversation],
        *,
        seeds: Sequence[int],
        sampling: Sampling | None = None,
    ) -> list[Reply | Failure]:
        """The same with a seed for each: a reply depends on its seed and its conversation alone."""
        sampling = sampling or self.sampling
        prompts = [self.prompt(conversation, sampling) for conversation in conversations]
        both = zip(prompts, seeds, strict=True)
        own = [seed for prompt, seed in both if not isinstance(prompt, Failure)]
        return self._replies(conversations, prompts, own, sampling)

    @phase("sample")
    def _replies(
        self,
        conversations: Sequence[Conversation],
        prompts: Sequence[Asked | Failure],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Reply | Failure]:
        """What the engine draws after those prompts that are no failures, by so many seeds."""
        given = [prompt for prompt in prompts if not isinstance(prompt, Failure)]
        extra = self.told(sampling, given)
        ids = [tuple(prompt.ids) for prompt in given]
        completions = self.engine.generate(ids, sampling=sampling, seeds=seeds, **extra)
        found = iter(zip(completions, extra.get("guides") or [None] * len(given), strict=True))
        return [
            prompt if isinstance(prompt, Failure) else self.reply(prompt.ids, *next(found), asked, sampling)
            for asked, prompt in zip(conversations, prompts, strict=True)
        ]

    def spelled(self, ids: Sequence[int]) -> list[str]:
        """The text of each token; a character that several tokens make is at the last of them."""
        return self.renderer.texts(ids)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Calls within go on from what earlier ones have read, where the engine can do that: a dialogue is
        read once."""
        remembering = getattr(self.engine, "remembering", nullcontext)
        with remembering():
            yield

    def stream(
        self, conversation: Conversation, *, sampling: Sampling | None = None, seed: int = 0
    ) -> Generator[str, None, Reply]:
        """What the model writes in the reply that a call with this one conversation gives, thoughts and calls
        included, in pieces of whole characters.

        The generator's return value is the reply. Raises DataError where a call gives a Failure.
        """
        sampling = sampling or self.sampling
        prompt = self.prompt(conversation, sampling)
        if isinstance(prompt, Failure):
            raise DataError(prompt.reason)
        if not isinstance(self.engine, Streaming):
            raise DataError(f"{type(self.engine).__name__} gives whole replies only: call the chat instead.")
        (own,) = numbers([written(prompt.ids)], seed)
        extra = self.told(sampling, [prompt])
        if "guides" in extra:
            (extra["guide"],) = extra.pop("guides")
        tokens = self.engine.stream(prompt.ids, sampling=sampling, seed=own, **extra)
        return self._stream(prompt.ids, tokens, extra.get("guide"), conversation, sampling)

    def _stream(
        self,
        prompt: Sequence[int],
        tokens: Generator[int, None, Completion],
        guide: Guide | None,
        asked: Conversation,
        sampling: Sampling,
    ) -> Generator[str, None, Reply]:
        text = Text(self.renderer, sampling.stop)
        if sampling.prefill:
            yield sampling.prefill
        while True:
            try:
                piece = text.take(next(tokens))
            except StopIteration as end:
                completion: Completion = end.value
                break
            if piece:
                yield piece
        if rest := text.rest(completion):
            yield rest
        reply = self.reply(prompt, completion, guide, asked, sampling)
        if isinstance(reply, Failure):
            raise DataError(reply.reason)
        return reply

    def prompt(self, conversation: Conversation, sampling: Sampling) -> Asked | Failure:
        """The ids to go on from. What does not fit into the context fails, or loses its oldest turns."""
        asked = to_answer(conversation, self.system)
        if isinstance(asked, Failure):
            return asked
        context: int | None = getattr(self.engine, "context", None)
        while True:
            try:
                begun = self._prefill(sampling)
                beside = {name: [*ids, *begun] for name, ids in self.renderer.prompts(asked).items()}
                prompt = Asked([*self.renderer.prompt(asked), *begun], beside)
            except RenderError as error:
                return Failure(str(error))
            if context is None or prompt.longest + sampling.max_new <= context:
                return prompt
            shorter = _without_oldest(asked)
            if self.over == "fail" or shorter is None:
                return Failure(
                    f"the prompt has {prompt.longest} tokens and {sampling.max_new} may follow, but the "
                    f"model's context ends at {context}"
                )
            asked = shorter

    def _prefill(self, sampling: Sampling) -> list[int]:
        return self.renderer.ids(sampling.prefill) if sampling.prefill else []

    def told(self, sampling: Sampling, asked: Sequence[Asked]) -> dict[str, Any]:
        """What an engine is told beside the sampling, only where there is something to tell."""
        extra: dict[str, Any] = {}
        if self.renderer.beside:
            extra["beside"] = {name: [one.beside[name] for one in asked] for name in self.renderer.beside}
        if sampling.stop:
            tail = TAIL * max(map(len, sampling.stop))
            extra["ends"] = lambda ids: any(text in self.renderer.text(ids[-tail:]) for text in sampling.stop)
        if sampling.schema is not None or sampling.grammar is not None:
            from turnsmith.sample.guides import Vocabulary

            if self._vocabulary is None:
                engine: Any = self.engine
                self._vocabulary = Vocabulary(
                    self.renderer.tokenizer, engine.vocabulary, stop=self.renderer.stops
                )
            guide = self._vocabulary.guide(sampling, self._prefill(sampling))
            assert guide is not None  # a schema or a grammar is asked for
            extra["guides"] = [guide.copy() for _ in asked]
        return extra

    def reply(
        self,
        prompt: Sequence[int],
        completion: Completion,
        guide: Guide | None,
        asked: Conversation,
        sampling: Sampling,
    ) -> Reply | Failure:
        """The reply that these ids stand for; a Failure where a guide could not be kept to."""
        if guide is not None and guide.failure is not None:
            return Failure(guide.failure)
        begun = self._prefill(sampling)
        message, _ = self.renderer.parse([*begun, *completion.ids], asked.tools)
        # What was given had no choice: its probability was 1.
        message = replace(message, logprobs=(*[0.0] * len(begun), *completion.logprobs))
        if sampling.stop:
            message = replace(message, content=_before(message.content, sampling.stop))
        return Reply(message, completion.finish, Usage(len(prompt), len(completion.ids)))


class Text:
    """What the ids of a reply say as they come, in whole characters, up to the first of the texts `stop`."""

    def __init__(self, renderer: Renderer, stop: Sequence[str]) -> None:
        self.renderer, self.stop = renderer, stop
        self.held = max(map(len, stop), default=1) - 1  # characters that may be part of a text to stop at
        self._ids: list[int] = []
        self._start, self._shown = 0, 0  # ids[start:shown] are context of what is decoded next
        self._said, self._given = "", 0  # in whole characters, and how many of them were given

    def take(self, id: int) -> str:
        """The characters that can be given out now; often none."""
        ids = self._ids
        ids.append(id)
        before, text = (
            self.renderer.text(ids[self._start : self._shown]),
            self.renderer.text(ids[self._start :]),
        )
        if len(text) > len(before) and not text.endswith(BROKEN):
            self._said += text[len(before) :]
            self._start, self._shown = self._shown, len(ids)
        given, self._given = self._given, max(self._given, len(self._said) - self.held)
        return self._said[given : self._given]

    def rest(self, completion: Completion) -> str:
        """What was held back, once the reply has ended."""
        return _before(self.renderer.text(completion.ids), self.stop)[self._given :]


def samples(
    chat: Chat,
    conversations: Sequence[Conversation],
    n: int,
    *,
    sampling: Sampling | None = None,
    seed: int = 0,
) -> list[list[Reply | Failure]]:
    """`n` replies to each conversation, asked for in one call; a local model reads each prompt once."""
    asked = [conversation for conversation in conversations for _ in range(n)]
    replies = chat(asked, sampling=sampling, seed=seed)
    return [replies[start : start + n] for start in range(0, len(replies), n)]


def _before(text: str, stops: Sequence[str]) -> str:
    """What stands before the first of the texts to stop at."""
    return text[: min((text.index(stop) for stop in stops if stop in text), default=len(text))]


def _without_oldest(conversation: Conversation) -> Conversation | None:
    """The conversation without its first turn, a user's message and all up to the next one; None where
    only one is left. What stands before the first turn, such as a system message, stays."""
    messages = conversation.messages
    turns = [place for place, message in enumerate(messages) if message.role == "user"]
    if len(turns) < 2:
        return None
    return replace(conversation, messages=(*messages[: turns[0]], *messages[turns[1] :]))


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


def numbers(asked: Sequence[str], seed: int) -> list[int]:
    """A seed for each of what is asked, from itself and from how many equal ones came before."""
    seen: Counter[str] = Counter()
    found: list[int] = []
    for one in asked:
        found.append(seeds.number(seed, "reply", one, seen[one]))
        seen[one] += 1
    return found


def written(prompt: Sequence[int]) -> str:
    return " ".join(map(str, prompt))
