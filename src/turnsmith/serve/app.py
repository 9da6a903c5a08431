"""The endpoint: requests as OpenAI's clients make them, answered by models that many may ask at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from turnsmith.serve import annotating, feedback, wire
from turnsmith.serve.answering import awaited, streamed
from turnsmith.serve.doors import Asking, Doors, Rate
from turnsmith.serve.feedback import CRITERIA
from turnsmith.serve.growing import Rules
from turnsmith.serve.keeping import PATIENCE, Keeping, Kept, Unkept
from turnsmith.serve.refusals import Bounded, Refused, answer_errors
from turnsmith.serve.replies import Replies
from turnsmith.serve.served import Served
from turnsmith.serve.store.keys import Known
from turnsmith.serve.store.talks import Made, Who
from turnsmith.serve.store.writing import Store
from turnsmith.serve.texts import Texts
from turnsmith.types import Conversation

LARGEST = 2**22  # bytes of a request


def app(
    served: Mapping[str, Served],
    *,
    store: Store | None = None,
    largest: int = LARGEST,
    rate: int = 0,
    criteria: Sequence[str] = CRITERIA,
    patience: float = PATIENCE,
    alone: bool = True,
    rules: Rules = Rules(),  # noqa: B008 - frozen
) -> FastAPI:
    """The application. store: what keeps all that is said; nothing does without it. largest: bytes of a
    request. rate: requests in a minute for each key; 0 is no limit. criteria: of scales. patience:
    seconds that a request waits for a store that is away. alone: whether only this machine can ask; then
    pages of other sites that lead their names here are refused. rules: of trees that people grow."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        for one in served.values():
            one.batching.close()
        if store:
            store.close()

    made = FastAPI(title="Turnsmith", lifespan=life)
    made.add_middleware(Bounded, largest=largest)
    if alone:
        made.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    answer_errors(made)
    made.state.doors = Doors(store, Rate(rate))
    keeping = Keeping(store, patience=patience) if store else None
    if keeping:
        made.include_router(feedback.routes(keeping, criteria, rules))
        made.include_router(annotating.routes(keeping, rules))

    async def kept(of: Served, asked: wire.Asked, asking: Known, said: list[Conversation]) -> Kept:
        if keeping is None or asked.store is False:
            return Unkept()
        return await keeping.begun(Who(asking.name, asked.user or ""), said, _made(of, asked), tag=asked.tag)

    def find(name: str) -> Served:
        if name not in served:
            there = ", ".join(served)
            raise Refused(
                404, f"no model {name!r} is served; there are: {there}", param="model", code="model_not_found"
            )
        return served[name]

    @made.get("/v1/models")
    async def models(asking: Asking) -> dict[str, Any]:
        return {"object": "list", "data": [_described(one) for one in served.values()]}

    @made.get("/v1/models/{name}")
    async def model(name: str, asking: Asking) -> dict[str, Any]:
        return _described(find(name))

    @made.post("/v1/chat/completions")
    async def chat(asked: wire.ChatAsked, request: Request, asking: Asking) -> Response:
        one = find(asked.model)
        replies = Replies.begun(one, asked.conversation(), asked)
        return await answer(replies, [replies.conversation] * (asked.n or 1), request, asking)

    @made.post("/v1/completions")
    async def complete(asked: wire.TextAsked, request: Request, asking: Asking) -> Response:
        texts = Texts.begun(find(asked.model), asked)
        return await answer(texts, texts.conversations, request, asking)

    async def answer(
        given: Replies | Texts, said: list[Conversation], request: Request, asking: Known
    ) -> Response:
        try:
            given.kept = await kept(given.of, given.asked, asking, said)
        except BaseException:
            for one in given.coming:
                one.cancel()
            raise
        if given.asked.stream:
            return streamed(given.streamed())
        return JSONResponse(await awaited(request, given.whole(), given.coming, given.kept))

    return made


def _described(one: Served) -> dict[str, Any]:
    return {"id": one.name, "object": "model", "created": one.made, "owned_by": "turnsmith"}


def _made(of: Served, asked: wire.Asked) -> Made:
    """How the replies to a request are made."""
    sampling = asked.model_dump(include=set(wire.DRAWN), exclude_none=True)
    template = of.chat.renderer.fingerprint
    return Made(of.name, of.weights, of.adapter, template, sampling, asked.seed)
