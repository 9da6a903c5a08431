"""The endpoint: requests as OpenAI's clients make them, answered by models that many may ask at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from turnsmith.serve import wire
from turnsmith.serve.answering import awaited, streamed
from turnsmith.serve.refusals import Bounded, Refused, answer_errors
from turnsmith.serve.replies import Replies
from turnsmith.serve.served import Served
from turnsmith.serve.texts import Texts

LARGEST = 2**22  # bytes of a request


def app(served: Mapping[str, Served], *, largest: int = LARGEST) -> FastAPI:
    """The application; a request of more than `largest` bytes is refused."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        for one in served.values():
            one.batching.close()

    made = FastAPI(title="Turnsmith", lifespan=life)
    made.add_middleware(Bounded, largest=largest)
    answer_errors(made)

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
        replies = Replies.begun(one, conversation, asked)
        if asked.stream:
            return streamed(replies.streamed())
        return JSONResponse(await awaited(request, replies.whole(), replies.coming))

    @made.post("/v1/completions")
    async def complete(asked: wire.TextAsked, request: Request) -> Response:
        texts = Texts.begun(find(asked.model), asked)
        if asked.stream:
            return streamed(texts.streamed())
        return JSONResponse(await awaited(request, texts.whole(), texts.coming))

    return made


def _described(one: Served) -> dict[str, Any]:
    return {"id": one.name, "object": "model", "created": one.made, "owned_by": "turnsmith"}
