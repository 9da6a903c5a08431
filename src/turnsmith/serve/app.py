"""The endpoint: requests as OpenAI's clients make them, answered by models that many may ask at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turnsmith.errors import DataError, TurnsmithError, UsageError
from turnsmith.sample.chat import Asked, LocalChat, Text, numbers, written
from turnsmith.serve import wire
from turnsmith.serve.batching import Batching, Busy, Coming
from turnsmith.types import Completion, Conversation, Failure, Reply, Sampling

MOST_NEW = 512  # tokens of a reply where the request does not say; fewer where the context ends before
LARGEST = 2**22  # bytes of a request
Choice = dict[str, Any]  # a piece of a reply, or all of it
LOOK = 0.5  # seconds between looks whether who asked is still there


@dataclass(frozen=True)
class Served:
    """A model under its name. made: seconds since 1970."""

    name: str
    chat: LocalChat
    batching: Batching
    made: int = 0


class Refused(Exception):
    """A request that is answered with an error. status: of HTTP."""

    def __init__(self, status: int, text: str, **more: str | None) -> None:
        self.status, self.body = status, wire.error(text, **more)  # pyright: ignore[reportArgumentType]


def app(served: Mapping[str, Served], *, largest: int = LARGEST) -> FastAPI:
    """The application; a request of more than `largest` bytes is refused."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        for one in served.values():
            one.batching.close()

    made = FastAPI(title="Turnsmith", lifespan=life)
    made.add_middleware(Bounded, largest=largest)
    for kind, answer in (
        (Refused, lambda refused: (refused.status, refused.body)),
        (RequestValidationError, _invalid),
        (HTTPException, lambda error: (error.status_code, wire.error(str(error.detail)))),
        (TurnsmithError, _failed),
    ):
        made.add_exception_handler(kind, partial(_answered, answer))

    def find(name: str) -> Served:
        if name not in served:
            there = ", ".join(served)
            raise Refused(
                404, f"no model {name!r} is served; there are: {there}", param="model", code="model_not_found"
            )
        return served[name]

    @made.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_described(one) for one in served.values()]}

    @made.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        return _described(find(name))

    @made.post("/v1/chat/completions")
    async def chat(asked: wire.ChatAsked, request: Request) -> Response:
        one = find(asked.model)
        conversation = asked.conversation()
        replies = _Replies.begun(one, conversation, asked)
        if asked.stream:
            return _streamed(replies.streamed())
        return JSONResponse(await _awaited(request, replies.whole(), replies.coming))

    @made.post("/v1/completions")
    async def complete(asked: wire.TextAsked, request: Request) -> Response:
        texts = _Texts.begun(find(asked.model), asked)
        if asked.stream:
            return _streamed(texts.streamed())
        return JSONResponse(await _awaited(request, texts.whole(), texts.coming))

    return made


@dataclass
class _Replies:
    """The replies to one request for a chat."""

    of: Served
    asked: wire.ChatAsked
    conversation: Conversation
    sampling: Sampling
    prompt: list[int]
    guides: list[Any]
    coming: list[Coming]

    @classmethod
    def begun(cls, of: Served, conversation: Conversation, asked: wire.ChatAsked) -> _Replies:
        """Ask the engine. Raises Refused where the conversation cannot be answered."""
        prompt, sampling = _prompt(of, conversation, asked)
        count = asked.n or 1
        told = of.chat.told(sampling, [prompt] * count)
        guides = told.get("guides") or [None] * count
        beside = {name: ids[0] for name, ids in told.get("beside", {}).items()}
        seeds = numbers([written(prompt.ids)] * count, asked.number())
        coming = _asked_all(
            of,
            [
                {"prompt": tuple(prompt.ids), "sampling": sampling, "seed": seed, "guide": guide}
                | {"ends": told.get("ends"), "beside": beside or None}
                for seed, guide in zip(seeds, guides, strict=True)
            ],
        )
        return cls(of, asked, conversation, sampling, prompt.ids, guides, coming)

    def _reply(self, number: int, completion: Completion) -> Reply:
        found = self.of.chat.reply(
            self.prompt, completion, self.guides[number], self.conversation, self.sampling
        )
        if isinstance(found, Failure):
            raise Refused(500, found.reason, kind="server_error")
        return found

    def _logprobs(self, ids: tuple[int, ...], logprobs: tuple[float, ...]) -> dict[str, Any] | None:
        if not self.asked.logprobs:
            return None
        pieces = self.of.chat.renderer.texts(list(ids))
        return {
            "content": [wire.token(*both) for both in zip(pieces, logprobs, strict=True)],
            "refusal": None,
        }

    async def whole(self) -> dict[str, Any]:
        """The answer."""
        choices: list[Choice] = []
        for number, coming in enumerate(self.coming):
            completion = await coming.whole()
            reply = self._reply(number, completion)
            logprobs = self._logprobs(completion.ids, completion.logprobs)
            choice = {"index": number, "message": wire.said(reply.message), "logprobs": logprobs}
            choices.append({**choice, "finish_reason": wire.finish(reply)})
        found = wire.head("chatcmpl", self.of.name, "chat.completion")
        return {**found, "choices": choices, "usage": self._usage()}

    async def streamed(self) -> AsyncIterator[bytes]:
        """The answer in pieces. Where tools may be called, a reply comes when it has ended: until then nobody
        knows whether it is a call."""
        head = wire.head("chatcmpl", self.of.name, "chat.completion.chunk")
        async for one in _events(head, self.coming, self._pieces, self._usage, self.asked):
            yield one

    def _usage(self) -> dict[str, int]:
        return wire.usage(len(self.prompt), _drawn(self.coming))

    async def _pieces(self, number: int) -> AsyncIterator[Choice]:
        coming, text = self.coming[number], Text(self.of.chat.renderer, self.sampling.stop)

        def choice(delta: dict[str, Any], logprobs: Any = None, end: str | None = None) -> Choice:
            return {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": end}

        yield choice({"role": "assistant", "content": ""})
        held = bool(self.conversation.tools)
        async for id in coming:
            piece = "" if held else text.take(id)
            if piece:
                yield choice({"content": piece})
        assert coming.completion is not None
        reply = self._reply(number, coming.completion)
        rest = reply.message.content if held else text.rest(coming.completion)
        if rest:
            yield choice({"content": rest})
        if reply.message.calls:
            made = [{"index": at, **call} for at, call in enumerate(wire.calls(reply.message))]
            yield choice({"tool_calls": made})
        logprobs = self._logprobs(coming.completion.ids, coming.completion.logprobs)
        yield choice({}, logprobs, wire.finish(reply))


@dataclass
class _Texts:
    """The texts of one request for completions."""

    of: Served
    asked: wire.TextAsked
    prompts: list[list[int]]
    stops: tuple[str, ...]
    coming: list[Coming]

    @classmethod
    def begun(cls, of: Served, asked: wire.TextAsked) -> _Texts:
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
        coming = _asked_all(
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
        return wire.usage(read, _drawn(self.coming))

    async def streamed(self) -> AsyncIterator[bytes]:
        """The answer in pieces."""
        head = wire.head("cmpl", self.of.name, "text_completion")
        async for one in _events(head, self.coming, self._pieces, self._usage, self.asked):
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


def _asked_all(of: Served, wanted: list[dict[str, Any]]) -> list[Coming]:
    """All of these, or none."""
    coming: list[Coming] = []
    try:
        for one in wanted:
            coming.append(of.batching.ask(**one))
    except Busy:
        for one in coming:
            one.cancel()
        raise
    return coming


def _prompt(of: Served, conversation: Conversation, asked: wire.ChatAsked) -> tuple[Asked, Sampling]:
    """What the engine goes on from, and how the reply is drawn; where the request does not say how long it
    may be, as the context allows. Raises Refused where the conversation cannot be answered."""
    sampling = asked.how(1)
    prompt = of.chat.prompt(conversation, sampling)
    if isinstance(prompt, Failure):
        raise Refused(400, prompt.reason, param="messages")
    if not (asked.max_tokens or asked.max_completion_tokens):
        left = of.batching.capacity - prompt.longest
        sampling = replace(sampling, max_new=max(1, min(MOST_NEW, left)))
    return prompt, sampling


def _drawn(coming: list[Coming]) -> int:
    """Tokens of the replies that have ended."""
    return sum(len(one.completion.ids) for one in coming if one.completion)


async def _events(
    head: dict[str, Any],
    coming: list[Coming],
    pieces: Callable[[int], AsyncIterator[Choice]],
    usage: Callable[[], dict[str, int]],
    asked: wire.Asked,
) -> AsyncIterator[bytes]:
    """The choices of all replies as they come, as events; where who asked goes away, replies are ended."""
    try:
        async for choice in _merged([partial(pieces, number) for number in range(len(coming))]):
            yield wire.event({**head, "choices": [choice]})
        if asked.usage_wanted:
            yield wire.event({**head, "choices": [], "usage": usage()})
        yield wire.event("[DONE]")
    except (TurnsmithError, Refused) as error:  # the status is sent: what is left is to say it
        body = error.body if isinstance(error, Refused) else wire.error(str(error), kind="server_error")
        yield wire.event(body)
    finally:
        for one in coming:
            one.cancel()


async def _merged(makers: list[Callable[[], AsyncIterator[Any]]]) -> AsyncIterator[Any]:
    """What several give, as it comes."""
    if len(makers) == 1:
        async for one in makers[0]():
            yield one
        return
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def put(make: Callable[[], AsyncIterator[Any]]) -> None:
        try:
            async for one in make():
                await queue.put(one)
            await queue.put(None)
        except Exception as error:  # noqa: BLE001 - raised where it is taken out
            await queue.put(error)

    tasks = [asyncio.create_task(put(make)) for make in makers]
    try:
        left = len(tasks)
        while left:
            one = await queue.get()
            if isinstance(one, Exception):
                raise one
            left -= one is None
            if one is not None:
                yield one
    finally:
        for task in tasks:
            task.cancel()


async def _awaited(
    request: Request, answer: Awaitable[dict[str, Any]], coming: list[Coming]
) -> dict[str, Any]:
    """The answer; where who asked goes away before, the replies are ended."""
    task = asyncio.ensure_future(answer)
    try:
        while not (await asyncio.wait({task}, timeout=LOOK))[0]:
            if await request.is_disconnected():
                raise Refused(499, "the client has gone")
        return task.result()
    finally:
        task.cancel()
        for one in coming:
            one.cancel()


def _streamed(pieces: AsyncIterator[bytes]) -> StreamingResponse:
    return StreamingResponse(pieces, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def _described(one: Served) -> dict[str, Any]:
    return {"id": one.name, "object": "model", "created": one.made, "owned_by": "turnsmith"}


async def _answered(
    answer: Callable[[Any], tuple[int, dict[str, Any]]], request: Request, error: Exception
) -> Response:
    status, body = answer(error)
    return JSONResponse(body, status, headers={"Retry-After": "1"} if status == 429 else None)


def _invalid(error: RequestValidationError) -> tuple[int, dict[str, Any]]:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return 400, wire.error(f"{where or 'the request'}: {first['msg']}", param=where or None)


def _failed(error: TurnsmithError) -> tuple[int, dict[str, Any]]:
    if isinstance(error, Busy):
        return 429, wire.error(f"{error}: try again", kind="rate_limit_error", code="rate_limit_exceeded")
    usage = isinstance(error, UsageError | DataError) or error.exit_code == 2
    return (400, wire.error(str(error))) if usage else (500, wire.error(str(error), kind="server_error"))


class Bounded:
    """Reads bodies up to a size, and refuses larger ones."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self.app, self.largest = app, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        pieces: list[Message] = []
        read = 0
        while not pieces or pieces[-1].get("more_body"):
            pieces.append(await receive())
            read += len(pieces[-1].get("body", b""))
            if read > self.largest:
                body = wire.error(f"the request has more than {self.largest:,} bytes")
                await JSONResponse(body, 413, headers={"Connection": "close"})(scope, receive, send)
                return
        waiting = iter(pieces)

        async def again() -> Message:
            return next(waiting, None) or await receive()

        await self.app(scope, again, send)
