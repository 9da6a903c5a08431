"""The endpoint: requests as OpenAI's clients make them, answered by models that many may ask at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware

from turnsmith.errors import UsageError
from turnsmith.serve import annotating, face, feedback, opinions, wire
from turnsmith.serve import runs as watched
from turnsmith.serve.answering import awaited, streamed
from turnsmith.serve.doors import Asking, Doors, Rate
from turnsmith.serve.embeddings import embeddings
from turnsmith.serve.feedback import CRITERIA
from turnsmith.serve.finding import Finding, Model, answering, described
from turnsmith.serve.growing import Rules
from turnsmith.serve.guarding import Guard, flagged
from turnsmith.serve.keeping import PATIENCE, Keeping, Kept, Unkept
from turnsmith.serve.passing import Backend, Behind
from turnsmith.serve.playing import PATHS, Flow, Make, Played, flowing, passed, refused
from turnsmith.serve.refusals import Bounded, FromHere, Refused, answer_errors
from turnsmith.serve.replies import Replies
from turnsmith.serve.runs import Runs
from turnsmith.serve.served import Served
from turnsmith.serve.store.keys import Known
from turnsmith.serve.store.talks import Made, Who
from turnsmith.serve.store.writing import Store
from turnsmith.serve.texts import Texts
from turnsmith.types import Conversation, Message

LARGEST = 2**22  # bytes of a request
T = TypeVar("T", bound=BaseModel)


def app(
    served: Mapping[str, Model],
    *,
    backends: Sequence[Backend] = (),
    guards: Sequence[Guard] = (),
    store: Store | None = None,
    largest: int = LARGEST,
    rate: int = 0,
    criteria: Sequence[str] = CRITERIA,
    patience: float = PATIENCE,
    alone: bool = True,
    rules: Rules = Rules(),  # noqa: B008 - frozen
    page: bool = True,
    runs: Runs | None = None,
) -> FastAPI:
    """The application. backends: all of whose models are served too, under the names that they have there.
    guards: what judges requests and replies. store: what keeps all that is said; nothing does without it.
    largest: bytes of a request. rate: requests in a minute for each key; 0 is no limit. criteria: of scales.
    patience: seconds that a request waits for a store that is away. alone: whether only this machine can ask;
    then pages of other sites that lead their names here are refused. rules: of trees that people grow. page:
    whether there is one at `/`. runs: what people may watch."""

    finding = Finding(served, backends)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        await finding.close(guards)
        if store:
            store.close()

    made = FastAPI(title="Turnsmith", lifespan=life)
    made.add_middleware(Bounded, largest=largest)
    made.add_middleware(FromHere)
    if alone:
        made.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    answer_errors(made)
    made.state.doors = Doors(store, Rate(rate), alone=alone)
    keeping = Keeping(store, patience=patience) if store else None
    if keeping:
        made.include_router(feedback.routes(keeping, criteria, rules))
        made.include_router(annotating.routes(keeping, rules))
        made.include_router(opinions.routes(keeping))
    if runs:
        made.include_router(watched.routes(runs))
    if page:
        made.include_router(face.routes(criteria, kept=store is not None))

    def untouched(body: Mapping[str, Any]) -> bool:
        return not guards and (keeping is None or body.get("store") is False)

    async def kept(of: Model, asked: wire.Asked, asking: Known, said: list[Conversation]) -> Kept:
        if keeping is None or asked.store is False:
            return Unkept()
        return await keeping.begun(Who(asking.name, asked.user or ""), said, _made(of, asked), tag=asked.tag)

    @made.get("/v1/models")
    async def models(asking: Asking) -> dict[str, Any]:
        return {"object": "list", "data": await finding.all()}

    @made.get("/v1/models/{name:path}")
    async def model(name: str, asking: Asking) -> dict[str, Any]:
        return described(await finding.find(name))

    @made.post("/v1/chat/completions", openapi_extra=wire.sent(wire.ChatAsked))
    async def chat(request: Request, asking: Asking) -> Response:
        body = await _body(request)
        one = await finding.find(body["model"])
        if isinstance(one, Behind) and untouched(body):
            return await awaited(request, one.answer(PATHS["chat"], body))
        asked = _read(wire.PassedChat if isinstance(one, Behind) else wire.ChatAsked, body)
        conversation = asked.conversation()
        each = [conversation] * (asked.n or 1)
        name = await flagged(guards, conversation)
        if name or isinstance(one, Behind):
            given = Played(one.name, "chat", asked, each, *_ways(one, body, guards, name))
            return await answer(one, given, each, request, asking)
        replies = Replies.begun(answering(one), conversation, asked)
        return await answer(one, replies, each, request, asking)

    @made.post("/v1/completions", openapi_extra=wire.sent(wire.TextAsked))
    async def complete(request: Request, asking: Asking) -> Response:
        body = await _body(request)
        one = await finding.find(body["model"])
        if isinstance(one, Behind) and untouched(body):
            return await awaited(request, one.answer(PATHS["text"], body))
        asked = _read(wire.PassedText if isinstance(one, Behind) else wire.TextAsked, body)
        each = _prompts(one, asked)
        names = [name for one in each if (name := await flagged(guards, one))]
        if names or isinstance(one, Behind):
            given = Played(
                one.name, "text", asked, each, *_ways(one, body, guards, names[0] if names else None)
            )
            return await answer(one, given, each, request, asking)
        return await answer(one, Texts.begun(answering(one), asked), each, request, asking)

    async def answer(
        one: Model, given: Replies | Texts | Played, said: list[Conversation], request: Request, asking: Known
    ) -> Response:
        try:
            given.kept = await kept(one, given.asked, asking, said)
        except BaseException:
            for coming in given.coming:
                coming.cancel()
            raise
        if not isinstance(given, Played):
            given.guards = guards
        if given.asked.stream:
            return streamed(given.streamed())
        return JSONResponse(await awaited(request, given.whole(), given.coming, given.kept))

    @made.post("/v1/embeddings", openapi_extra=wire.sent(wire.EmbedAsked))
    async def embed(request: Request, asking: Asking) -> Response:
        body = await _body(request)
        one = await finding.find(body["model"])
        if isinstance(one, Behind):
            return await awaited(request, one.answer("embeddings", body))
        return JSONResponse(await awaited(request, embeddings(one, _read(wire.EmbedAsked, body))))

    return made


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


def _ways(one: Model, body: dict[str, Any], guards: Sequence[Guard], name: str | None) -> tuple[Make, Flow]:
    """How the answer is made of a request that the guard of this name has flagged, or that is passed on."""
    if name or not isinstance(one, Behind):
        return partial(refused, name or ""), None
    return partial(passed, one, body, guards), None if guards else partial(flowing, one, body)


def _prompts(one: Model, asked: wire.TextAsked) -> list[Conversation]:
    """What each text is to go on from. Raises UsageError where that is ids that are not read here."""
    texts: list[str] = []
    for prompt in asked.prompts():
        if isinstance(one, Behind) and not isinstance(prompt, str):
            raise UsageError(f"prompt: {one.name} is at another server, and what is judged or kept is text")
        if not isinstance(prompt, str) and not isinstance(one, Behind):
            prompt = answering(one).chat.renderer.text(prompt)
        texts += [str(prompt)] * (asked.n or 1)
    return [Conversation((Message("text", text),)) for text in texts]


def _made(of: Model, asked: wire.Asked) -> Made:
    """How the replies to a request are made."""
    sampling = asked.model_dump(include=set(wire.DRAWN), exclude_none=True)
    if not isinstance(of, Served):
        return Made(of.name, sampling=sampling, seed=asked.seed)
    template = of.chat.renderer.fingerprint
    return Made(of.name, of.weights, of.adapter, template, sampling, asked.seed)
