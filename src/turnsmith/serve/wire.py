"""What clients of OpenAI's API send, and what they are sent."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from turnsmith.data import messages
from turnsmith.errors import DataError, UsageError
from turnsmith.types import Best, Completion, Conversation, Json, Message, Reply, Sampling

MOST = 128  # replies to one request
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Id = Annotated[int, Field(ge=0, lt=2**31)]
FINISH = {"stop": "stop", "length": "length", "cancelled": "stop", "stuck": "stop"}


# What says how tokens are drawn.
DRAWN = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "stop",
    "max_tokens",
    "max_completion_tokens",
    "response_format",
    "tool_choice",
)


class Asked(BaseModel):
    """What requests of both kinds may say. What is not known here is refused, so that nothing is ignored in
    silence. user, metadata: whose conversation it is, and which (`conversation`). store: false where nothing
    of it is to be kept."""

    model_config = ConfigDict(extra="forbid")

    model: str
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST)] | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=200)] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    store: bool | None = None

    @property
    def tag(self) -> str | None:
        """What the client calls the conversation, to tell it from others that begin alike."""
        return (self.metadata or {}).get("conversation")

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts at which a reply ends."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def usage_wanted(self) -> bool:
        """Whether a stream ends on a piece with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def number(self) -> int:
        """The seed: the request's own, or one that is drawn."""
        return secrets.randbits(31) if self.seed is None else self.seed

    def sampling(self, most: int | None, **more: Any) -> Sampling:
        """How tokens are drawn. most: of a reply; a default where None. Raises UsageError."""
        named = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty")
        given = {name: getattr(self, name) for name in (*named, "presence_penalty")}
        given = {name: value for name, value in given.items() if value is not None}
        if most is not None:
            given["max_new"] = most
        try:
            return Sampling(**given, stop=self.stops, **more)
        except ValueError as error:
            raise UsageError(str(error)) from None


class StreamOptions(BaseModel):
    """Of a stream."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatAsked(Asked):
    """POST /v1/chat/completions."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None

    def conversation(self) -> Conversation:
        """What is to be answered. Raises DataError naming the message."""
        for number, message in enumerate(self.messages):
            _at_hand(message.get("content"), f"messages[{number}]")
        return messages.conversation(
            self.messages, "messages", tools=None if self.tool_choice == "none" else self.tools
        )

    def forced(self) -> list[dict[str, Any]]:
        """The tools of which one has to be called; none where the model is free. Raises UsageError."""
        choice, tools = self.tool_choice, self.tools or []
        if choice in (None, "auto", "none"):
            return []
        named: Any = choice.get("function") if isinstance(choice, dict) else None
        name = named.get("name") if isinstance(named, dict) else None
        if choice != "required" and not (name and choice.get("type") == "function"):
            raise UsageError(
                "tool_choice: take `auto`, `none`, `required` or {type: function, function: {name: ...}}"
            )
        found = [tool for tool in tools if choice == "required" or _name(tool) == name]
        if not found:
            there = ", ".join(map(_name, tools)) or "none"
            raise UsageError(f"tool_choice: {name or 'a tool'} is to be called; of tools there is {there}")
        if _schema(self.response_format) is not None:
            raise UsageError("a reply is a call or keeps to `response_format`: leave one of the two out")
        return found

    def how(self, default: int) -> Sampling:
        """How the reply is drawn. Raises UsageError for what is not offered."""
        if self.top_logprobs and not self.logprobs:
            raise UsageError("top_logprobs: they stand beside log-probs: ask for `logprobs: true` too")
        most = self.max_completion_tokens or self.max_tokens or default
        return self.sampling(most, schema=_schema(self.response_format))


class TextAsked(Asked):
    """POST /v1/completions."""

    prompt: str | list[str] | list[Id] | list[list[Id]]
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    def prompts(self) -> list[str | list[int]]:
        """Texts or ids to go on from."""
        return _each(self.prompt)


class PassedChat(ChatAsked):
    """The same for a model of another server, which may know more than is known here."""

    model_config = ConfigDict(extra="ignore")


class PassedText(TextAsked):
    """The same."""

    model_config = ConfigDict(extra="ignore")


class EmbedAsked(BaseModel):
    """POST /v1/embeddings."""

    model_config = ConfigDict(extra="forbid")

    model: str
    input: str | list[str] | list[Id] | list[list[Id]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None

    def texts(self) -> list[str | list[int]]:
        """What is to be embedded, as texts or ids."""
        return _each(self.input)


def _each(given: Any) -> list[str | list[int]]:
    """Texts or lists of ids, of which a single one may stand by itself."""
    return [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else list(given)


def _name(tool: Mapping[str, Any]) -> str:
    """What a tool is called, "" where it does not say."""
    function: Any = tool.get("function", tool)
    return str(function.get("name", "")) if isinstance(function, dict) else ""


def _at_hand(content: Any, where: str) -> None:
    """Raises DataError where an image is not in the request itself: who asks must not have files of this
    machine read."""
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict) or part.get("type") not in ("image_url", "image"):
            continue
        inner = part.get("image_url")
        found = inner.get("url") if isinstance(inner, dict) else inner
        found = found or part.get("url") or part.get("path") or part.get("image")
        if not str(found).startswith("data:"):
            raise DataError(f"{where}: an image comes in the request, as a data: URI; no place is looked up")


def _schema(asked: Mapping[str, Any] | None) -> Mapping[str, Json] | None:
    """The JSON schema that a `response_format` asks for. Raises UsageError where it is none."""
    kind = (asked or {}).get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    found = (asked or {}).get("json_schema", {})
    if kind != "json_schema" or not isinstance(found, dict) or not isinstance(found.get("schema"), dict):
        raise UsageError(
            "response_format: take {type: text}, {type: json_object} or {type: json_schema, json_schema: "
            "{schema: ...}}"
        )
    return found["schema"]


def head(kind: Literal["chatcmpl", "cmpl"], model: str, object_: str) -> dict[str, Any]:
    """What all answers begin with."""
    return {
        "id": f"{kind}-{secrets.token_hex(12)}",
        "object": object_,
        "created": int(time.time()),
        "model": model,
    }


def said(message: Message) -> dict[str, Any]:
    """An assistant's message."""
    found: dict[str, Any] = {"role": "assistant", "content": message.content}
    if message.thinking is not None:
        found["reasoning_content"] = message.thinking
    if message.calls:
        found |= {"content": message.content or None, "tool_calls": calls(message)}
    return found


def calls(message: Message) -> list[dict[str, Any]]:
    """Calls of tools, with ids where the model gave none."""
    return [
        {
            "id": call.id or f"call_{secrets.token_hex(8)}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
        }
        for call in message.calls
    ]


def finish(reply: Reply) -> str:
    """Why a reply has ended, in OpenAI's words."""
    return "tool_calls" if reply.message.calls else FINISH[reply.finish]


def logprobs(completion: Completion, pieces: Sequence[str], named: Callable[[int], str]) -> dict[str, Any]:
    """The log-probs of a chat completion. pieces: the text of each token. named: what an id is called that
    was not drawn."""
    drawn = zip(pieces, completion.logprobs, _best(completion), strict=True)
    content = [
        _token(piece, logprob) | {"top_logprobs": [_token(named(id), value) for id, value in best]}
        for piece, logprob, best in drawn
    ]
    return {"content": content, "refusal": None}


def _best(completion: Completion) -> Sequence[Best]:
    return completion.best or [()] * len(completion.ids)


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def usage(read: int, written: int) -> dict[str, int]:
    """Tokens, counted on ids."""
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def event(piece: Mapping[str, Any] | str) -> bytes:
    """A server-sent event."""
    return f"data: {piece if isinstance(piece, str) else json.dumps(piece, ensure_ascii=False)}\n\n".encode()


def error(
    text: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {"error": {"message": text, "type": kind, "param": param, "code": code}}


def texts(
    parts: Sequence[Completion], pieces: Sequence[str], named: Callable[[int], str], best: int
) -> dict[str, Any]:
    """The log-probs of a text completion: its tokens, theirs, and where each begins.

    parts: what was read, where it is told of, and what was drawn. pieces: the text of each token; where there
    is one more of them than ids, it is the first token of what was read, which nothing predicts. named: what
    an id is called. best: how many of the most probable ids were asked for; what came stands beside them.
    """
    ids = [id for one in parts for id in one.ids]
    logprobs: list[float | None] = [value for one in parts for value in one.logprobs]
    likely = [dict(best) for one in parts for best in _best(one)]
    top: list[dict[str, float] | None] = [
        {named(other): value for other, value in {**likely[at], id: logprobs[at]}.items()}
        for at, id in enumerate(ids)
    ]
    if len(pieces) > len(ids):
        logprobs, top = [None, *logprobs], [None, *top]
    return {
        "tokens": list(pieces),
        "token_logprobs": logprobs,
        "top_logprobs": top if best else None,
        "text_offset": [0, *accumulate(map(len, pieces[:-1]))] if pieces else [],
    }


def sent(kind: type[BaseModel]) -> dict[str, Any]:
    """What a description of the endpoint says of a body that is read by hand, since servers behind take more
    than is known here."""
    schema = kind.model_json_schema()
    text = json.dumps({name: value for name, value in schema.items() if name != "$defs"})
    for name, inner in schema.get("$defs", {}).items():
        text = text.replace(json.dumps({"$ref": f"#/$defs/{name}"}), json.dumps(inner))
    body = {"application/json": {"schema": json.loads(text)}}
    return {"requestBody": {"required": True, "content": body}}
