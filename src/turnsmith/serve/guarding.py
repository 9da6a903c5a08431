"""Guards: what is asked is judged before it is answered, and what is answered before it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from fastapi.responses import JSONResponse, Response

from turnsmith.data import messages
from turnsmith.errors import UsageError
from turnsmith.serve import wire
from turnsmith.serve.answering import streamed
from turnsmith.serve.refusals import Refused
from turnsmith.types import Conversation, Example, Message, Scorer

Kind = Literal["chat", "text"]
Body = dict[str, Any]
SPOKEN = ("system", "user", "assistant")  # what tools say is read by the model alone
TEXT = "This request is not answered: it was flagged by {}."
HEADS: Mapping[Kind, tuple[str, str]] = {
    "chat": ("chatcmpl", "chat.completion"),
    "text": ("cmpl", "text_completion"),
}


@dataclass(frozen=True)
class Guard:
    """What judges the last message of a conversation: how bad it is, by a scorer, and from which number on it
    is flagged. It judges in a thread of its own."""

    name: str
    scorer: Scorer
    threshold: float = 0.5
    thread: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 1))

    async def flags(self, conversation: Conversation) -> bool:
        """Whether it is flagged. Raises Refused where it cannot be judged: nothing passes unjudged."""
        example = Example({"text": conversation}, meta={"id": "a request"})
        work = partial(self.scorer, [conversation], [example])
        (score,) = await asyncio.get_running_loop().run_in_executor(self.thread, work)
        if score is None:
            text = f"the guard {self.name} cannot judge what is said: nothing is answered"
            raise Refused(500, text, kind="server_error")
        return score >= self.threshold


async def guarded(
    guards: Sequence[Guard], kind: Kind, body: Body, answer: Callable[[Body], Awaitable[Response]]
) -> Response:
    """What `answer` gives to a request, if no guard flags the request or it. With guards a stream is held
    until it was judged; what is flagged ends for the reason `content_filter`, without a text of its own."""
    if not guards:
        return await answer(body)
    asked = _asked(kind, body)
    for conversation in asked:
        if name := await _flagging(guards, conversation):
            return _sent(kind, body, _refusal(kind, body, name))
    plain = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
    answered = await answer(plain)
    if answered.status_code != 200:
        return answered
    whole: Body = json.loads(bytes(answered.body))
    each = max(1, len(whole["choices"]) // len(asked)) if asked else 1
    for number, choice in enumerate(whole["choices"]):
        conversation = asked[min(number // each, len(asked) - 1)] if asked else Conversation(())
        if name := await _flagging(guards, conversation.then(Message("assistant", _text(choice)))):
            whole["choices"][number] = _withheld(kind, number, name)
    return _sent(kind, body, whole)


def _asked(kind: Kind, body: Body) -> list[Conversation]:
    """What is judged of a request: a chat up to what the user says last, or each prompt that is a text.
    Raises DataError naming the message."""
    if kind == "chat":
        sent: Any = body.get("messages")
        given = messages.conversation(sent if isinstance(sent, list) else [], "messages").messages
        said = [one for one in given if one.role in SPOKEN and one.content]
        users = [number for number, one in enumerate(said) if one.role == "user"]
        return [Conversation(tuple(said[: users[-1] + 1]))] if users else []
    prompt: Any = body.get("prompt")
    prompts: list[Any] = prompt if isinstance(prompt, list) else [prompt]
    if not all(isinstance(one, str) for one in prompts):
        raise UsageError("prompt: a guard judges what is asked here, and reads texts: send no ids")
    return [Conversation((Message("user", one),)) for one in prompts]


async def _flagging(guards: Sequence[Guard], conversation: Conversation) -> str | None:
    """The guard that flags it, if one does."""
    for guard in guards:
        if await guard.flags(conversation):
            return guard.name
    return None


def _text(choice: Mapping[str, Any]) -> str:
    """All that a choice says, thoughts and calls included."""
    said: Mapping[str, Any] = choice.get("message") or {"content": choice.get("text")}
    calls = [call["function"] for call in said.get("tool_calls") or []]
    parts = [said.get("reasoning_content"), said.get("content")]
    parts += [f"{call['name']}({call['arguments']})" for call in calls]
    return "\n".join(part for part in parts if part)


def _withheld(kind: Kind, number: int, name: str) -> Body:
    """A choice in the place of one that was flagged."""
    said: Body = {"text": ""}
    if kind == "chat":
        said = {"message": {"role": "assistant", "content": None, "refusal": TEXT.format(name)}}
    return {"index": number, **said, "logprobs": None, "finish_reason": "content_filter"}


def _refusal(kind: Kind, body: Body, name: str) -> Body:
    """The answer to a request that was flagged; no model has read it."""
    id, object_ = HEADS[kind]
    count: Any = body.get("n")
    count = count if isinstance(count, int) and 1 <= count <= wire.MOST else 1
    choices = [_withheld(kind, number, name) for number in range(count)]
    head = wire.head(id, str(body["model"]), object_)  # pyright: ignore[reportArgumentType]
    return {**head, "choices": choices, "usage": wire.usage(0, 0)}


def _sent(kind: Kind, body: Body, whole: Body) -> Response:
    """An answer as it was asked for: whole, or as the events that it would have come in."""
    return streamed(_events(kind, body, whole)) if body.get("stream") else JSONResponse(whole)


async def _events(kind: Kind, body: Body, whole: Body) -> AsyncIterator[bytes]:
    head = {name: value for name, value in whole.items() if name not in ("choices", "usage")}
    if kind == "chat":
        head["object"] = "chat.completion.chunk"
    for choice in whole["choices"]:
        for piece in _pieces(choice) if kind == "chat" else [choice]:
            yield wire.event({**head, "choices": [piece]})
    if (body.get("stream_options") or {}).get("include_usage"):
        yield wire.event({**head, "choices": [], "usage": whole.get("usage")})
    yield wire.event("[DONE]")


def _pieces(choice: Mapping[str, Any]) -> list[Body]:
    """What is said, and how it ended."""
    delta = {name: value for name, value in choice["message"].items() if value is not None}
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": at, **call} for at, call in enumerate(delta["tool_calls"])]
    said = {
        "index": choice["index"],
        "delta": delta,
        "logprobs": choice.get("logprobs"),
        "finish_reason": None,
    }
    return [said, {**said, "delta": {}, "logprobs": None, "finish_reason": choice["finish_reason"]}]
