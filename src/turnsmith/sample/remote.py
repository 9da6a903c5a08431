"""A chat over any server that speaks OpenAI's chat completions; what it has answered is not asked again."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Coroutine, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from turnsmith import seeds
from turnsmith.data.messages import message, say
from turnsmith.errors import DataError, ModelError
from turnsmith.models.endpoint import Endpoint
from turnsmith.sample.chat import to_answer
from turnsmith.sample.recorded import Recorded
from turnsmith.shelf import digest
from turnsmith.types import (
    Conversation,
    Failure,
    Finish,
    Json,
    Message,
    Reply,
    Sampling,
    Usage,
    is_list,
    is_object,
)

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Response

T = TypeVar("T")
# How servers name the two ends of a reply, beside OpenAI's own words for them.
ENDS: dict[str, Finish] = {
    **dict.fromkeys(("stop", "tool_calls", "function_call", "eos_token", "stop_sequence"), "stop"),
    **dict.fromkeys(("length", "max_tokens"), "length"),
}
PASSING = (408, 409, 425, 429)  # refusals that another try may not meet; so may every one from 500 on
WHOLE = (401, 404)  # the key, or the model: no other conversation will fare better
SEEDS = 2**31  # servers differ in the widest seed that they take; 31 bits fit all
SAID = 200  # characters of a server's words that are passed on


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
    where a conversation has no system message. spent: since the chat was made, or settled.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        records: Path,
        *,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        system: str | None = None,
    ) -> None:
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
        given = [to_answer(conversation, self.system) for conversation in conversations]
        asked = [one for one in given if not isinstance(one, Failure)]
        bodies = [self._body(one, sampling or self.sampling) for one in asked]
        for body, own in zip(bodies, _seeds(bodies, seed), strict=True):
            body["seed"] = own
        replies = iter(self._answered(bodies))
        return [one if isinstance(one, Failure) else next(replies) for one in given]

    def stream(
        self, conversation: Conversation, *, sampling: Sampling | None = None, seed: int = 0
    ) -> Generator[str, None, Reply]:
        """The reply in one piece, as `LocalChat.stream` gives it in many. Raises DataError for a Failure."""
        (reply,) = self([conversation], sampling=sampling, seed=seed)
        if isinstance(reply, Failure):
            raise DataError(reply.reason)
        calls = [
            f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})" for call in reply.message.calls
        ]
        yield "\n".join([*([reply.message.content] if reply.message.content else []), *calls])
        return reply

    def settle(self) -> Spent:
        """What was spent since the last time; counted from 0 from now on."""
        spent, self.spent = self.spent, self._nothing()
        return spent

    def _nothing(self) -> Spent:
        return Spent(cost=0.0 if self.endpoint.price else None)

    def _body(self, conversation: Conversation, sampling: Sampling) -> dict[str, Any]:
        """The request; what a server may not know is left out where it says nothing."""
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": [_wire(one) for one in conversation.messages],
            "temperature": sampling.temperature,
            self.endpoint.limit: sampling.max_new,
        }
        body |= {"top_p": sampling.top_p} if sampling.top_p < 1 else {}
        body |= {"top_k": sampling.top_k} if sampling.top_k else {}
        return body | ({"tools": list(conversation.tools)} if conversation.tools else {})

    def _answered(self, bodies: Sequence[dict[str, Any]]) -> list[Reply | Failure]:
        keys = [digest(self.endpoint.fingerprint, body) for body in bodies]
        known = {key: reply for key in keys if (reply := self._known(key)) is not None}
        self.spent.recorded += len(known)
        open_ = {key: body for key, body in zip(keys, bodies, strict=True) if key not in known}
        found = _finished(self._asked(open_)) if open_ else {}
        return [known[key] if key in known else found[key] for key in keys]

    def _known(self, key: str) -> Reply | None:
        said = self.recorded.get(key)
        try:
            return _reply(said) if said is not None else None
        except _Trouble:
            return None  # what an older version took for a reply is asked for again

    async def _asked(self, bodies: Mapping[str, dict[str, Any]]) -> dict[str, Reply | Failure]:
        """What comes of the requests, so many at once as the endpoint allows."""
        from httpx2 import AsyncClient, Limits

        secret = self.endpoint.secret()
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        gate = asyncio.Semaphore(self.endpoint.parallel)

        async def one(key: str, body: dict[str, Any]) -> Reply | Failure:
            async with gate:
                return await self._tried(client, key, body)

        limits = Limits(max_connections=self.endpoint.parallel)
        secure = self.endpoint.url.startswith(
            "https"
        )  # without, reading all certificates takes half a second
        async with AsyncClient(headers=headers, timeout=None, limits=limits, verify=secure) as client:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = {key: group.create_task(one(key, body)) for key, body in bodies.items()}
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
        return {key: task.result() for key, task in tasks.items()}

    async def _tried(self, client: AsyncClient, key: str, body: dict[str, Any]) -> Reply | Failure:
        """The reply, after as many tries as are allowed; the reason of the last one where it did not come."""
        jitter, trouble = Random(key), _Trouble("")
        for number in range(self.endpoint.tries):
            if number:
                self.spent.retries += 1
                pause = min(self.endpoint.longest, self.endpoint.wait * 2 ** (number - 1))
                await asyncio.sleep(max(pause * jitter.uniform(0.5, 1.0), trouble.pause))
            try:
                said = await self._said(client, body)
                reply = _reply(said)
            except _Trouble as error:
                trouble = error
                if trouble.final:
                    return Failure(str(trouble))
                if trouble.pause > self.endpoint.longest:
                    return Failure(f"{trouble} (asks to wait {trouble.pause:,.0f} s)")
                continue
            self.recorded.add(key, body, said)
            self._count(reply, said)
            return reply
        reason = f"{trouble} ({self.endpoint.tries} tries)"
        if trouble.unreachable:
            raise ModelError(f"{self.endpoint.url} cannot be reached: {reason}. Is the server running?")
        return Failure(reason)

    async def _said(self, client: AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
        """What the server answers, within the endpoint's time and size; _Trouble where that is no reply."""
        from httpx2 import ConnectError, RequestError

        try:
            async with asyncio.timeout(self.endpoint.seconds):
                response, content = await self._posted(client, body)
        except TimeoutError:
            raise _Trouble(f"no whole reply came within {self.endpoint.seconds:g} s") from None
        except RequestError as error:
            reason = f"{type(error).__name__}: {self._clean(str(error)) or 'the connection broke off'}"
            raise _Trouble(reason, unreachable=isinstance(error, ConnectError)) from None
        if response.status_code != 200:
            raise self._refused(response, content)
        try:
            found: Any = json.loads(content)
            # Halves of surrogate pairs, which a server may escape, cannot be written as UTF-8.
            found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
        except ValueError as error:
            raise _Trouble(f"the reply is no JSON ({error})") from None
        choices: Any = found.get("choices") if is_object(found) else None
        if not is_list(choices) or not choices:
            raise _Trouble(f"the reply has no choices: {self._clean(content.decode('utf-8', 'replace'))}")
        return {"choice": choices[0], "usage": found.get("usage")}

    async def _posted(self, client: AsyncClient, body: dict[str, Any]) -> tuple[Response, bytes]:
        read = bytearray()
        async with client.stream("POST", f"{self.endpoint.url}/chat/completions", json=body) as response:
            async for piece in response.aiter_bytes():
                read += piece
                if len(read) > self.endpoint.bytes:
                    raise _Trouble(f"the reply has more than {self.endpoint.bytes:,} bytes", final=True)
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
        return _Trouble(reason, final=not again, pause=_asked_pause(response.headers.get("Retry-After")))

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


class _Trouble(Exception):
    """Why a try gave no reply. final: another one would fare no better. pause: seconds that the server asks
    to wait."""

    def __init__(
        self, reason: str, *, final: bool = False, pause: float = 0.0, unreachable: bool = False
    ) -> None:
        super().__init__(reason)
        self.final, self.pause, self.unreachable = final, pause, unreachable


def _wire(said: Message) -> dict[str, Json]:
    """A message as a server takes it: without weights, thoughts and fields of our own."""
    return say(replace(said, weight=None, spans=(), fields={}, thinking=None))


def _reply(said: Mapping[str, Any]) -> Reply:
    """What a recorded or fresh choice says; _Trouble where it is no reply."""
    choice: Any = said["choice"]
    given: Any = choice.get("message") if is_object(choice) else None
    if not is_object(given):
        raise _Trouble(f"the reply has no message: {choice!r:.{SAID}}")
    finish: Any = choice.get("finish_reason")
    if finish == "content_filter":
        raise _Trouble("the server's filter withheld the reply", final=True)
    if not isinstance(finish, str) or finish not in ENDS:
        raise _Trouble(f"the reply ended for the reason {finish!r}, which is not known")
    wanted = ("tool_calls", "function_call", "reasoning_content", "reasoning")
    kept = {key: given[key] for key in wanted if given.get(key)}
    content = given.get("content")
    try:
        found = message({"role": "assistant", "content": "" if content is None else content, **kept}, "reply")
    except DataError as error:
        raise _Trouble(f"the reply cannot be read: {error}") from None
    return Reply(_thoughtful(found), ENDS[finish], _usage(said["usage"]))


def _thoughtful(said: Message) -> Message:
    """The message with thoughts that the server left in the content taken out of it."""
    text = said.content.lstrip()
    thoughts, end, rest = text.partition("</think>")
    if said.thinking is not None or not (end or text.startswith("<think>")):
        return said
    return replace(said, content=rest.lstrip(), thinking=thoughts.removeprefix("<think>").strip())


def _usage(found: Any) -> Usage:
    """Tokens as the server counts them; 0 where it does not."""
    counts: Any = found if is_object(found) else {}
    numbers = [counts.get(name) for name in ("prompt_tokens", "completion_tokens")]
    read, written = (number if isinstance(number, int) else 0 for number in numbers)
    return Usage(read, written)


def _seeds(bodies: Sequence[Mapping[str, Any]], seed: int) -> list[int]:
    """A seed for each request, from what is said and from how many equal ones came before."""
    seen: Counter[str] = Counter()
    found: list[int] = []
    for body in bodies:
        said = digest(body["messages"], body.get("tools"))
        found.append(seeds.number(seed, "reply", said, seen[said]) % SEEDS)
        seen[said] += 1
    return found


def _asked_pause(after: str | None) -> float:
    """Seconds that `Retry-After` asks for, given as a number or as a date; 0 where it says neither."""
    if after is None:
        return 0.0
    try:
        return max(0.0, float(after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date, or one without a zone
        return 0.0


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """What the work comes to; in a notebook, where a loop is running already, in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
