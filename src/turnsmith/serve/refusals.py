"""Requests that get an error, in OpenAI's form."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turnsmith.errors import DataError, StorageError, TurnsmithError, UsageError
from turnsmith.serve import wire
from turnsmith.serve.batching import Busy
from turnsmith.serve.store.judging import Absent


class Refused(Exception):
    """A request that is answered with an error. status: of HTTP. again: seconds until it may be repeated."""

    def __init__(self, status: int, text: str, *, again: int = 1, **more: str | None) -> None:
        self.status, self.again = status, again
        self.body = wire.error(text, **more)  # pyright: ignore[reportArgumentType]


def answer_errors(app: FastAPI) -> None:
    """Let what is raised in a request be its answer."""
    for kind, answer in (
        (Refused, lambda refused: (refused.status, refused.body, refused.again)),
        (RequestValidationError, _invalid),
        (HTTPException, lambda error: (error.status_code, wire.error(str(error.detail)))),
        (TurnsmithError, _failed),
    ):
        app.add_exception_handler(kind, partial(_answered, answer))


async def _answered(
    answer: Callable[[Any], tuple[int, dict[str, Any], *tuple[int, ...]]], request: Request, error: Exception
) -> Response:
    status, body, *again = answer(error)
    headers = {"Retry-After": str(*again or "1")} if status in (429, 503) else None
    return JSONResponse(body, status, headers=headers)


def _invalid(error: RequestValidationError) -> tuple[int, dict[str, Any]]:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return 400, wire.error(f"{where or 'the request'}: {first['msg']}", param=where or None)


def _failed(error: TurnsmithError) -> tuple[int, dict[str, Any]]:
    if isinstance(error, Busy):
        return 429, wire.error(f"{error}: try again", kind="rate_limit_error", code="rate_limit_exceeded")
    if isinstance(error, StorageError):
        return 503, wire.error(str(error), kind="server_error", code="store_unavailable")
    if isinstance(error, Absent):
        return 404, wire.error(str(error), code="not_found")
    usage = isinstance(error, UsageError | DataError) or error.exit_code == 2
    return (400, wire.error(str(error))) if usage else (500, wire.error(str(error), kind="server_error"))


class FromHere:
    """Refuses what pages of other sites send: a server without keys lets in whoever its machine sends, and a
    browser there sends what any page asks it to. What is no browser does not say where it is from."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            site = Headers(scope=scope).get("sec-fetch-site", "none")
            if site not in ("none", "same-origin"):
                body = wire.error("a page of another site sent this: only this server's own page may")
                await JSONResponse(body, 403)(scope, receive, send)
                return
        await self.app(scope, receive, send)


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
