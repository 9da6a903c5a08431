"""A chat over any server that speaks OpenAI's chat completions; what it has answered is not asked again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from turnsmith.errors import DataError, ModelError
from turnsmith.models.endpoint import Endpoint
from turnsmith.sample import able, wire
from turnsmith.sample.chat import numbers, to_answer
from turnsmith.sample.pieces import Gathering, events
from turnsmith.sample.recorded import Recorded
from turnsmith.sample.wire import SAID, Trouble
from turnsmith.shelf import digest
from turnsmith.types import Conversation, Failure, Reply, Sampling, is_object

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Client, RequestError, Response

T = TypeVar("T")
PASSING = (408, 409, 425, 429)  # refusals that another try may not meet; so may every one from 500 on
WHOLE = (401, 404)  # the key, or the model: no other conversation will fare better
SEEDS = 2**31  # servers differ in the widest seed that they take; 31 bits fit all


@dataclass(slots=True)
class Spent:
    """What a chat has asked for. recorded: replies that were known before. unmetered: replies whose tokens
    the server did not count. cost: in the currency of the price; None where the price is not known."""

    asked: int = 0
    recorded: int = 0
    retries: int = 0
    prompt: int = 0
    completion: int = 0
    unmetered: int = 0
    cost: float | None = None


class RemoteChat:
    """Answers conversations with what the model behind `endpoint` says, and records it.

    records: the directory of recorded replies. sampling: used where a call gives none. system: put first
    where a conversation has no system message. spent: since the chat was made, or settled. Raises UsageError,
    here and where it is called, for a sampling that asks more than the server gives; nothing is sent then.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        records: Path,
        *,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        system: str | None = None,
    ) -> None:
        able.refuse(sampling, endpoint.server, endpoint.name)
        self.endpoint, self.sampling, self.system = endpoint, sampling, system
        self.recorded = Recorded(records / f"{endpoint.fingerprint}.jsonl")
        self.spent = self._nothing()

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        """One reply or failure per conversation, in their order.

        What is asked depends on the seed, the conversation, and how many equal ones came before it in this
        call; what was answered once is given again. Raises ModelError where the server cannot be reached, or
        refuses the key or the model: that is no conversation's fault, and the replies that came are recorded.
        """
        return self._replies(conversations, sampling or self.sampling, seed)

    def by_seeds(
        self, conversations: Sequence[Conversation], *, seeds: Sequence[int], sampling: Sampling | None = None
    ) -> list[Reply | Failure]:
        """The same with a seed for each: what is asked depends on it and the conversation alone."""
        return self._replies(conversations, sampling or self.sampling, seeds)

    def _replies(
        self, conversations: Sequence[Conversation], sampling: Sampling, seed: int | Sequence[int]
    ) -> list[Reply | Failure]:
        given = [to_answer(conversation, self.system) for conversation in conversations]
        if not isinstance(seed, int):
            both = zip(given, seed, strict=True)
            seed = [own for one, own in both if not isinstance(one, Failure)]
        asked = self._requests([one for one in given if not isinstance(one, Failure)], sampling, seed)
        replies = iter(self._answered(asked, sampling))
        return [one if isinstance(one, Failure) else next(replies) for one in given]

    def stream(
        self, conversation: Conversation, *, sampling: Sampling | None = None, seed: int = 0
    ) -> Generator[str, None, Reply]:
        """The reply that a call with this one conversation gives, in pieces as they come: what is said, then
        calls. One that is recorded, or that a server gives as a whole, comes in one piece.

        Raises DataError where a call gives a Failure, and where the reply breaks off, which is then not
        recorded. Closing the generator closes the connection.
        """
        sampling = sampling or self.sampling
        given = to_answer(conversation, self.system)
        if isinstance(given, Failure):
            raise DataError(given.reason)
        [(key, body)] = self._requests([given], sampling, seed)
        known = self._known(key, sampling)
        if known is None:
            return self._streamed(key, body, sampling)
        self.spent.recorded += 1
        return _shown(known)

    def settle(self) -> Spent:
        """What was spent since the last time; counted from 0 from now on."""
        spent, self.spent = self.spent, self._nothing()
        return spent

    def _nothing(self) -> Spent:
        return Spent(cost=0.0 if self.endpoint.price else None)

    def _requests(
        self, conversations: Sequence[Conversation], sampling: Sampling, seed: int | Sequence[int]
    ) -> list[tuple[str, dict[str, Any]]]:
        """For each conversation what is sent, and the key that its reply is recorded under."""
        able.refuse(sampling, self.endpoint.server, self.endpoint.name)
        bodies = [wire.request(self.endpoint, one, sampling) for one in conversations]
        said = [digest(body["messages"], body.get("tools")) for body in bodies]
        for body, own in zip(bodies, numbers(said, seed) if isinstance(seed, int) else seed, strict=True):
            body["seed"] = own % SEEDS
        return [(digest(self.endpoint.fingerprint, body), body) for body in bodies]

    def _answered(
        self, asked: Sequence[tuple[str, dict[str, Any]]], sampling: Sampling
    ) -> list[Reply | Failure]:
        known = {key: reply for key, _ in asked if (reply := self._known(key, sampling)) is not None}
        self.spent.recorded += len(known)
        open_ = {key: body for key, body in asked if key not in known}
        found = _finished(self._asked(open_, sampling)) if open_ else {}
        return [known[key] if key in known else found[key] for key, _ in asked]

    def _known(self, key: str, sampling: Sampling) -> Reply | None:
        said = self.recorded.get(key)
        try:
            return self._read(said, sampling) if said is not None else None
        except Trouble:
            return None  # what an older version took for a reply is asked for again

    def _read(self, said: Mapping[str, Any], sampling: Sampling) -> Reply:
        return wire.reply(said, sampling, ids=self.endpoint.ids)

    @property
    def _headers(self) -> dict[str, str]:
        secret = self.endpoint.secret()
        return {"Authorization": f"Bearer {secret}"} if secret else {}

    @property
    def _secure(self) -> bool:
        """Whether certificates are to be read, which takes half a second."""
        return self.endpoint.url.startswith("https")

    async def _asked(
        self, bodies: Mapping[str, dict[str, Any]], sampling: Sampling
    ) -> dict[str, Reply | Failure]:
        """What comes of the requests, so many at once as the endpoint allows."""
        from httpx2 import AsyncClient, Limits

        gate = asyncio.Semaphore(self.endpoint.parallel)

        async def one(key: str, body: dict[str, Any]) -> Reply | Failure:
            async with gate:
                return await self._tried(client, key, body, sampling)

        limits = Limits(max_connections=self.endpoint.parallel)
        async with AsyncClient(
            headers=self._headers, timeout=None, limits=limits, verify=self._secure
        ) as client:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = {key: group.create_task(one(key, body)) for key, body in bodies.items()}
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
        return {key: task.result() for key, task in tasks.items()}

    async def _tried(
        self, client: AsyncClient, key: str, body: dict[str, Any], sampling: Sampling
    ) -> Reply | Failure:
        """The reply, after as many tries as are allowed; the reason of the last one where it did not come."""
        jitter, trouble = Random(key), Trouble("")
        for number in range(self.endpoint.tries):
            if number:
                await asyncio.sleep(self._pause(number, trouble, jitter))
            try:
                said = await self._said(client, body)
                reply = self._read(said, sampling)
            except Trouble as error:
                trouble = error
                if failure := self._hopeless(trouble):
                    return failure
                continue
            self._keep(key, body, said, reply)
            return reply
        return self._exhausted(trouble)

    def _streamed(self, key: str, body: dict[str, Any], sampling: Sampling) -> Generator[str, None, Reply]:
        """The same for one request, in pieces; what has begun to come is not tried again."""
        from httpx2 import Client

        jitter, trouble = Random(key), Trouble("")
        wanted = {**body, "stream": True, "stream_options": {"include_usage": True}}
        with Client(headers=self._headers, timeout=self.endpoint.seconds, verify=self._secure) as client:
            for number in range(self.endpoint.tries):
                if number:
                    time.sleep(self._pause(number, trouble, jitter))
                gathering = Gathering(sampling.prefill)
                try:
                    said = yield from self._pieces(client, wanted, gathering)
                    reply = self._read(said, sampling)
                except Trouble as error:
                    trouble = error
                    if gathering.shown:
                        raise DataError(
                            f"the reply broke off after {gathering.shown:,} characters: {trouble}. It is not "
                            "recorded: ask again"
                        ) from None
                    if failure := self._hopeless(trouble):
                        raise DataError(failure.reason) from None
                    continue
                self._keep(key, body, said, reply)
                yield from _rest(reply, gathering.shown)
                return reply
        raise DataError(self._exhausted(trouble).reason)

    def _pause(self, number: int, trouble: Trouble, jitter: Random) -> float:
        """Seconds before the try of this number, which is counted."""
        self.spent.retries += 1
        pause = min(self.endpoint.longest, self.endpoint.wait * 2 ** (number - 1))
        return max(pause * jitter.uniform(0.5, 1.0), trouble.pause)

    def _hopeless(self, trouble: Trouble) -> Failure | None:
        """What comes of it where another try would not help, or not soon."""
        if trouble.final:
            return Failure(str(trouble))
        if trouble.pause > self.endpoint.longest:
            return Failure(f"{trouble} (asks to wait {trouble.pause:,.0f} s)")
        return None

    def _exhausted(self, trouble: Trouble) -> Failure:
        """What comes of the last try; ModelError where the server was never reached."""
        reason = f"{trouble} ({self.endpoint.tries} tries)"
        if trouble.unreachable:
            raise ModelError(f"{self.endpoint.url} cannot be reached: {reason}. Is the server running?")
        return Failure(reason)

    def _keep(self, key: str, body: dict[str, Any], said: dict[str, Any], reply: Reply) -> None:
        self.recorded.add(key, body, said)
        self._count(reply, said)

    async def _said(self, client: AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
        """What the server answers, within the endpoint's time and size; Trouble where that is no reply."""
        from httpx2 import RequestError

        try:
            async with asyncio.timeout(self.endpoint.seconds):
                response, content = await self._posted(client, body)
        except TimeoutError:
            raise self._late() from None
        except RequestError as error:
            raise self._broken(error) from None
        if response.status_code != 200:
            raise self._refused(response, content)
        return wire.answer(content, self._clean)

    def _pieces(
        self, client: Client, body: dict[str, Any], gathering: Gathering
    ) -> Generator[str, None, dict[str, Any]]:
        """What the server says as it comes, within the endpoint's time and size, and at the end all of it."""
        from httpx2 import RequestError, TimeoutException

        try:
            with client.stream("POST", f"{self.endpoint.url}/chat/completions", json=body) as response:
                coming = self._in_time(response)
                if response.status_code != 200:
                    raise self._refused(response, b"".join(coming))
                if "text/event-stream" not in response.headers.get("Content-Type", ""):
                    return wire.answer(b"".join(coming), self._clean)
                for event in events(coming):
                    if piece := gathering.take(event, self._clean):
                        yield piece
        except TimeoutException:
            raise self._late() from None
        except RequestError as error:
            raise self._broken(error) from None
        return gathering.whole()

    def _in_time(self, response: Response) -> Generator[bytes]:
        """The bytes of a response; the time that passes while nobody asks for them does not count."""
        size, waited, coming = 0, 0.0, response.iter_bytes()
        while True:
            started = time.monotonic()
            piece = next(coming, None)
            waited += time.monotonic() - started
            if piece is None:
                return
            size += len(piece)
            if waited > self.endpoint.seconds:
                raise self._late()
            if size > self.endpoint.bytes:
                raise self._large()
            yield piece

    def _late(self) -> Trouble:
        return Trouble(f"no whole reply came within {self.endpoint.seconds:g} s")

    def _large(self) -> Trouble:
        return Trouble(f"the reply has more than {self.endpoint.bytes:,} bytes", final=True)

    def _broken(self, error: RequestError) -> Trouble:
        from httpx2 import ConnectError

        reason = f"{type(error).__name__}: {self._clean(str(error)) or 'the connection broke off'}"
        return Trouble(reason, unreachable=isinstance(error, ConnectError))

    async def _posted(self, client: AsyncClient, body: dict[str, Any]) -> tuple[Response, bytes]:
        read = bytearray()
        async with client.stream("POST", f"{self.endpoint.url}/chat/completions", json=body) as response:
            async for piece in response.aiter_bytes():
                read += piece
                if len(read) > self.endpoint.bytes:
                    raise self._large()
        return response, bytes(read)

    def _refused(self, response: Response, content: bytes) -> Exception:
        """What a status other than 200 comes to."""
        status = response.status_code
        words = self._clean(content.decode("utf-8", "replace"))
        reason = f"{status} {response.reason_phrase}: {words}".rstrip(": ")
        if status in WHOLE:
            key = (
                f"the key in {self.endpoint.key}" if self.endpoint.key else "no key was given (?key=VARIABLE)"
            )
            what = key if status == 401 else f"the URL or the model {self.endpoint.model!r}"
            return ModelError(f"{self.endpoint.url} refuses what is asked, look at {what}: {reason}")
        again = status in PASSING or status >= 500
        return Trouble(reason, final=not again, pause=wire.asked_pause(response.headers.get("Retry-After")))

    def _clean(self, text: str) -> str:
        """A server's words in one short line; some repeat the key, which must not be written anywhere."""
        secret = self.endpoint.secret()
        text = text.replace(secret, "(the key)") if secret else text
        line = " ".join(text.split())
        return line if len(line) <= SAID else line[:SAID] + " ..."

    def _count(self, reply: Reply, said: Mapping[str, Any]) -> None:
        self.spent.asked += 1
        self.spent.prompt += reply.usage.prompt
        self.spent.completion += reply.usage.completion
        self.spent.unmetered += not is_object(said["usage"])
        if self.endpoint.price and self.spent.cost is not None:
            read, written = self.endpoint.price
            self.spent.cost += (reply.usage.prompt * read + reply.usage.completion * written) / 1e6


def _shown(reply: Reply) -> Generator[str, None, Reply]:
    """A reply that is there, in one piece."""
    yield from _rest(reply, 0)
    return reply


def _rest(reply: Reply, shown: int) -> Generator[str]:
    """What is left to show of a reply: its calls, and before them the words where none were shown."""
    lines = [reply.message.content] if reply.message.content and not shown else []
    lines += [
        f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})" for call in reply.message.calls
    ]
    if lines:
        yield ("\n" if shown else "") + "\n".join(lines)


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """What the work comes to; in a notebook, where a loop is running already, in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
