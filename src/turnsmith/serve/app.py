"""The endpoint: requests as OpenAI's clients make them, answered by models that many may ask at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError

from turnsmith.serve import wire
from turnsmith.serve.answering import awaited, streamed
from turnsmith.serve.embeddings import Encoder, embeddings
from turnsmith.serve.guarding import Guard, guarded
from turnsmith.serve.passing import Backend, Behind
from turnsmith.serve.refusals import Bounded, Refused, answer_errors
from turnsmith.serve.replies import Replies
from turnsmith.serve.served import Served
from turnsmith.serve.texts import Texts

LARGEST = 2**22  # bytes of a request
Model: TypeAlias = "Served | Encoder | Behind"
T = TypeVar("T", bound=BaseModel)


def app(
    served: Mapping[str, Model],
    *,
    backends: Sequence[Backend] = (),
    guards: Sequence[Guard] = (),
    largest: int = LARGEST,
) -> FastAPI:
    """The application. backends: all of whose models are served too, under the names that they have there.
    guards: what judges requests and replies. A request of more than `largest` bytes is refused."""
    found: dict[str, Model] = dict(served)  # those of the backends too, once they were asked for

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        await _close([*served.values()], backends, guards)

    made = FastAPI(title="Turnsmith", lifespan=life)
    made.add_middleware(Bounded, largest=largest)
    answer_errors(made)

    async def find(name: str) -> Model:
        away: Refused | None = None
        for backend in backends if name not in found else ():
            try:
                if any(one["id"] == name for one in await backend.models()):
                    found[name] = Behind(name, backend, name)
            except Refused as refused:
                away = refused
        if name not in found and away:
            raise away
        if name not in found:
            there = ", ".join(found)
            raise Refused(
                404, f"no model {name!r} is served; there are: {there}", param="model", code="model_not_found"
            )
        return found[name]

    @made.get("/v1/models")
    async def models() -> dict[str, Any]:
        data = {one.name: _described(one) for one in served.values()}
        for backend in backends:
            with suppress(Refused):  # what is away now is not served now
                data = {one["id"]: one for one in await backend.models()} | data
        return {"object": "list", "data": list(data.values())}

    @made.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        return _described(await find(name))

    @made.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await _body(request)
        answer = partial(_chat, await find(body["model"]), request)
        return await guarded(guards, "chat", body, answer)

    @made.post("/v1/completions")
    async def complete(request: Request) -> Response:
        body = await _body(request)
        answer = partial(_text, await find(body["model"]), request)
        return await guarded(guards, "text", body, answer)

    @made.post("/v1/embeddings")
    async def embed(request: Request) -> Response:
        body = await _body(request)
        one = await find(body["model"])
        if isinstance(one, Behind):
            return await awaited(request, one.answer("embeddings", body))
        return JSONResponse(await awaited(request, embeddings(one, _read(wire.EmbedAsked, body))))

    return made


async def _chat(one: Model, request: Request, body: dict[str, Any]) -> Response:
    if isinstance(one, Behind):
        return await awaited(request, one.answer("chat/completions", body))
    asked = _read(wire.ChatAsked, body)
    replies = Replies.begun(_answering(one), asked.conversation(), asked)
    if asked.stream:
        return streamed(replies.streamed())
    return JSONResponse(await awaited(request, replies.whole(), replies.coming))


async def _text(one: Model, request: Request, body: dict[str, Any]) -> Response:
    if isinstance(one, Behind):
        return await awaited(request, one.answer("completions", body))
    asked = _read(wire.TextAsked, body)
    texts = Texts.begun(_answering(one), asked)
    if asked.stream:
        return streamed(texts.streamed())
    return JSONResponse(await awaited(request, texts.whole(), texts.coming))


async def _body(request: Request) -> dict[str, Any]:
    """The request as an object that names a model. Raises Refused."""
    try:
        found: Any = await request.json()
    except ValueError as error:
        raise Refused(400, f"the request is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise Refused(400, "the request is no JSON object")
    if not isinstance(found.get("model"), str):
        raise Refused(400, "model: the request names none", param="model")
    return found


def _read(kind: type[T], body: Mapping[str, Any]) -> T:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


def _answering(one: Served | Encoder) -> Served:
    if isinstance(one, Encoder):
        raise Refused(
            400,
            f"{one.name} is an encoder: it reads texts and answers none. Ask it for embeddings",
            param="model",
        )
    return one


async def _close(served: Sequence[Model], backends: Sequence[Backend], guards: Sequence[Guard]) -> None:
    """End what is under way, and close what is open."""
    for one in served:
        if isinstance(one, Served):
            one.batching.close()
        elif isinstance(one, Encoder):
            one.thread.shutdown()
        else:
            await one.backend.close()
    for backend in backends:
        await backend.close()
    for guard in guards:
        guard.thread.shutdown()


def _described(one: Model) -> dict[str, Any]:
    return {"id": one.name, "object": "model", "created": one.made, "owned_by": "turnsmith"}
