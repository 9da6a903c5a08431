"""What is sent: an answer when it is whole, or its pieces as events; who goes away ends both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse

from turnsmith.errors import TurnsmithError
from turnsmith.serve import wire
from turnsmith.serve.batching import Coming
from turnsmith.serve.keeping import Kept
from turnsmith.serve.refusals import Refused

Choice = dict[str, Any]  # a piece of a reply, or all of it
T = TypeVar("T")
LOOK = 0.5  # seconds between looks whether who asked is still there


async def events(
    head: dict[str, Any],
    coming: Sequence[Coming],
    makers: list[Callable[[], AsyncIterator[Choice]]],
    usage: Callable[[], dict[str, int]],
    asked: wire.Asked,
    kept: Kept,
) -> AsyncIterator[bytes]:
    """The choices that the makers give as they come, as events; where who asked goes away, replies are
    ended."""
    try:
        async for choice in _merged(makers):
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
        kept.close()


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


async def awaited(
    request: Request, answer: Awaitable[T], coming: Sequence[Coming] = (), kept: Kept | None = None
) -> T:
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
        if kept is not None:
            kept.close()


def streamed(pieces: AsyncIterator[bytes]) -> StreamingResponse:
    """A response of events."""
    return StreamingResponse(pieces, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
