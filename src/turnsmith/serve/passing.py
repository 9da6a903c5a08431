"""Models of other servers: requests are passed on to them, and their answers back."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse, Response

from turnsmith.models.endpoint import Endpoint
from turnsmith.sample.wire import SAID, asked_pause
from turnsmith.serve import wire
from turnsmith.serve.answering import streamed
from turnsmith.serve.refusals import Refused

if TYPE_CHECKING:
    from httpx2 import AsyncClient, RequestError
    from httpx2 import Response as Answer

CONNECT = 10.0  # seconds within which a server takes a connection
OUR_FAULT = (401, 403)  # the key is this server's: who asks can do nothing about it


class Backend:
    """A server that speaks OpenAI's protocol, and how it is asked; connections to it are kept."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._client: AsyncClient | None = None

    async def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Its answer, of which the status is there and the rest may come. Raises Refused where it is away."""
        from httpx2 import AsyncClient, RequestError, Timeout

        if self._client is None:
            secure = self.endpoint.url.startswith("https")
            limit = Timeout(self.endpoint.seconds, connect=CONNECT)
            self._client = AsyncClient(timeout=limit, verify=secure)
        secret = self.endpoint.secret()
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        url = f"{self.endpoint.url}/{path}"
        request = self._client.build_request(method, url, json=body, headers=headers)
        try:
            return await self._client.send(request, stream=True)
        except RequestError as error:
            raise self.away(error) from None

    async def models(self) -> list[dict[str, Any]]:
        """What it serves. Raises Refused where it does not say."""
        answer = await self.send("GET", "models")
        found = await self.read(answer)
        data: Any = found.get("data") if answer.status_code == 200 else None
        if not isinstance(data, list):
            raise Refused(502, f"{self.endpoint.url} does not say what it serves", kind="server_error")
        return [one for one in data if isinstance(one, dict) and isinstance(one.get("id"), str)]

    async def read(self, answer: Answer) -> dict[str, Any]:
        """All of an answer, as an object. Raises Refused where it breaks off or is none."""
        from httpx2 import RequestError

        try:
            content = await answer.aread()
        except RequestError as error:
            raise self.away(error) from None
        finally:
            await answer.aclose()
        try:
            found: Any = json.loads(content)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return found
        if answer.status_code == 200:
            raise Refused(502, f"{self.endpoint.url} answers with no JSON object", kind="server_error")
        return {"detail": content.decode("utf-8", "replace")}

    def away(self, error: RequestError) -> Refused:
        """What is said where it cannot be reached, is late, or breaks off."""
        from httpx2 import ConnectError, ConnectTimeout, TimeoutException

        url = self.endpoint.url
        if isinstance(error, ConnectError | ConnectTimeout):
            return Refused(503, f"{url}, which this model is at, cannot be reached", kind="server_error")
        if isinstance(error, TimeoutException):
            late = f"{url} was silent for {self.endpoint.seconds:g} s"
            return Refused(504, late, kind="server_error")
        return Refused(502, f"{url} broke off ({type(error).__name__})", kind="server_error")

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()


@dataclass(frozen=True)
class Behind:
    """A model at a backend, under its name here. made: seconds since 1970."""

    name: str
    backend: Backend
    model: str
    made: int = 0

    async def answer(self, path: str, body: Mapping[str, Any]) -> Response:
        """What the backend answers to this request, whole or as a stream, with the name from here. Raises
        Refused where it does not answer, or with an error."""
        answer = await self._asked(path, body)
        if "text/event-stream" in answer.headers.get("Content-Type", ""):
            return streamed(self._events(answer))
        return JSONResponse({**await self.backend.read(answer), "model": self.name})

    async def chunks(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The pieces of a stream as they come. Raises Refused where it does not come or breaks off."""
        async with aclosing(self._events(await self._asked(path, body))) as events:
            async for event in events:
                said = event.removeprefix(b"data: ").strip()
                found: Any = None if said == b"[DONE]" else json.loads(said)
                if isinstance(found, dict) and "error" in found:
                    raise Refused(502, str(found["error"]["message"]), kind="server_error")
                if isinstance(found, dict):
                    yield found

    async def whole(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The same, all of it, as the backend has it."""
        return await self.backend.read(await self._asked(path, body))

    async def _asked(self, path: str, body: Mapping[str, Any]) -> Answer:
        answer = await self.backend.send("POST", path, {**body, "model": self.model})
        if answer.status_code != 200:
            raise self._refused(answer, await self.backend.read(answer))
        return answer

    def _refused(self, answer: Answer, said: Mapping[str, Any]) -> Refused:
        """An error in OpenAI's form, whatever form the backend has it in."""
        if answer.status_code in OUR_FAULT:
            url = self.backend.endpoint.url
            return Refused(502, f"{url} refuses this server's key", kind="server_error")
        given: Any = said.get("error", said)
        given = given if isinstance(given, dict) else {"message": given}
        message = given.get("message") or given.get("detail") or "no reason was given"
        text = message if isinstance(message, str) else json.dumps(message)
        kind = "server_error" if answer.status_code >= 500 else "invalid_request_error"
        more = {name: given[name] for name in ("param", "code") if isinstance(given.get(name), str)}
        again = math.ceil(asked_pause(answer.headers.get("Retry-After"))) or 1
        text = text if len(text) <= SAID else f"{text[:SAID]} ..."
        named = given.get("type")
        return Refused(
            answer.status_code, text, again=again, kind=named if isinstance(named, str) else kind, **more
        )

    async def _events(self, answer: Answer) -> AsyncGenerator[bytes]:
        """The events of a stream, which ends on an error where it breaks off."""
        from httpx2 import RequestError

        ended = False
        try:
            async for line in answer.aiter_lines():
                said = line.removeprefix("data:").strip()
                if line.startswith("data:") and said:
                    ended = ended or said == "[DONE]"
                    yield self._event(said)
            if not ended:
                url = self.backend.endpoint.url
                yield wire.event(wire.error(f"{url} ended the stream before its end", kind="server_error"))
        except RequestError as error:
            yield wire.event(self.backend.away(error).body)
        finally:
            await answer.aclose()

    def _event(self, said: str) -> bytes:
        """An event with the name from here, where it has one."""
        try:
            found: Any = json.loads(said)
        except ValueError:
            return wire.event(said)
        named = isinstance(found, dict) and "model" in found
        return wire.event({**found, "model": self.name} if named else said)
