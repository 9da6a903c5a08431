"""Messages as JSON: as OpenAI and its followers write them, and as Turnsmith keeps them, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turnsmith import album
from turnsmith.data.cells import unpacked
from turnsmith.data.loss_control import STRETCHES, WEIGHT, stretches_of, weight_of
from turnsmith.errors import DataError
from turnsmith.types import (
    IMAGE,
    ROLES,
    Call,
    Conversation,
    Image,
    Json,
    Message,
    Role,
    Span,
    is_list,
    is_object,
)

SAID = ("call_id", "name", "thinking")  # texts of a message that may be absent
ROLE: dict[str, Role] = {"developer": "system", "function": "tool"}  # other names of roles
THINKING = ("thinking", "reasoning_content", "reasoning")
OURS = ("role", "content", "name", "tool_calls", "function_call", "tool_call_id")
KEYS = frozenset((*OURS, *THINKING, *WEIGHT, *STRETCHES))  # what a message may have beside fields of its own


def conversation(value: Any, where: str, role: Role | None = None, tools: Any = None) -> Conversation:
    """A list of messages, or, where `role` is given, a text that becomes one message of that role.

    tools: schemas of what may be called, as a list or as its JSON text. Raises DataError naming the message.
    """
    schemas = schemas_of(tools)
    if isinstance(value, str) and role is not None and not _is_messages(unpacked(value)):
        return Conversation((Message(role, value),), schemas)
    given = listed(value, where)
    return Conversation(tuple(message(m, f"{where}[{i}]") for i, m in enumerate(given)), schemas)


def message(value: Any, where: str) -> Message:
    """One message: `role`, `content` (text, parts of text, or null beside calls), and what may go with it."""
    if not is_object(value) or "role" not in value:
        raise DataError(f"{where} must be an object with `role` and `content`")
    role: Any = value["role"]
    role = ROLE.get(role, role) if isinstance(role, str) else role
    if role not in ROLES:
        raise DataError(f"{where} has the unknown role {role!r}; known are {', '.join((*ROLES, *ROLE))}")
    content = value.get("content")
    if len(value) == 2 and isinstance(content, str):
        return Message(role, content)  # as nearly all are: nothing else is to be looked for
    calls = _calls(value, where)
    said = _content("" if content is None and calls else content, where)
    thought = [value[key] for key in THINKING if value.get(key) is not None] or said.thoughts
    return Message(
        role,
        said.text,
        weight_of(value, where),
        (*said.spans, *stretches_of(value, where)),
        {key: one for key, one in value.items() if key not in KEYS and one is not None},
        calls=(*calls, *said.calls),
        call_id=value.get("tool_call_id"),
        name=value.get("name"),
        thinking=text_of(thought[0], where) if thought else None,
        images=said.images,
    )


def text_of(value: Any, where: str) -> str:
    """A text, or parts of text put together; DataError for anything else."""
    said = _content(value, where)
    if said.thoughts or said.calls or said.images:
        raise DataError(f"{where} must be text, and has parts that think, call or show images")
    return said.text


def schemas_of(tools: Any) -> tuple[Mapping[str, Json], ...]:
    """Schemas of tools from a list or from its JSON text; empty where there is nothing."""
    tools = unpacked(tools)
    if not tools:
        return ()
    if not is_list(tools) or not all(is_object(tool) for tool in tools):
        raise DataError(f"tools must be a list of schemas, not {tools!r:.60}")
    return tuple(tools)


def arguments_of(value: Any, where: str) -> Mapping[str, Json]:
    """The arguments of a call, from an object or from its JSON text."""
    found: Any = value
    if isinstance(value, str):
        try:
            found = json.loads(value) if value.strip() else {}
        except ValueError as error:
            raise DataError(f"{where}: the arguments are no JSON ({error}): {value!r:.60}") from None
    if not is_object(found):
        raise DataError(f"{where}: the arguments must be an object, not {value!r:.60}")
    return found


def listed(value: Any, where: str) -> list[Any]:
    """A list of messages, which may stand as JSON text in a cell of a table."""
    value = unpacked(value)
    if not is_list(value):
        raise DataError(f"{where} must be a list of messages, not {value!r:.60}")
    return value


# --------------------------------------------------------------------------------- as OpenAI writes them


def say(message: Message) -> dict[str, Json]:
    """A message as OpenAI writes it, with `spans` of our own; `message` gives it back, sampled ids apart.

    The arguments of calls are JSON text: as objects they would have another type in every row.
    """
    row: dict[str, Json] = {"role": message.role, "content": shown(message) or message.content}
    row |= {} if message.thinking is None else {"reasoning_content": message.thinking}
    row |= {"tool_calls": [_say_call(call) for call in message.calls]} if message.calls else {}
    row |= {} if message.call_id is None else {"tool_call_id": message.call_id}
    row |= {} if message.name is None else {"name": message.name}
    return {**row, **say_weights(message), **message.fields}


def shown(message: Message) -> list[Json]:
    """The content in parts, where images stand in it; nothing where there are none."""
    if not message.images:
        return []
    texts = message.content.split(IMAGE)
    parts: list[Json] = []
    for text, image in zip(texts, (*message.images, None), strict=True):
        parts += [{"type": "text", "text": text}] if text else []
        parts += [{"type": "image_url", "image_url": {"url": image.url}}] if image else []
    return parts


def say_weights(message: Message) -> dict[str, Json]:
    """`weight`, a whole number where it is one, and `spans`; what is not said is left out."""
    row: dict[str, Json] = {} if message.weight is None else {"weight": _whole(message.weight)}
    spans: list[Json] = [[span.start, span.end, _whole(span.weight)] for span in message.spans]
    return row | ({"spans": spans} if spans else {})


def plain(message: Message, role: Role) -> bool:
    """Whether a message can stand as bare text where `conversation` is told the role."""
    return say(message) == {"role": role, "content": message.content} and not _is_messages(
        unpacked(message.content)
    )


def _say_call(call: Call) -> Json:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    wire: dict[str, Json] = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return wire if call.id is None else {"id": call.id, **wire}


def _whole(weight: float) -> float:
    return int(weight) if float(weight).is_integer() else weight


# ------------------------------------------------------------------------------- as Turnsmith keeps them


def dump(given: Conversation) -> Json:
    """A list of messages; an object with the tools beside them where there are any."""
    rows: list[Json] = []
    for m in given.messages:
        row: dict[str, Json] = {"role": m.role, "content": m.content}
        row |= {} if m.weight is None else {"weight": m.weight}
        row |= {"spans": [[s.start, s.end, s.weight] for s in m.spans]} if m.spans else {}
        row |= {"fields": dict(m.fields)} if m.fields else {}
        row |= {"ids": list(m.ids)} if m.ids is not None else {}
        row |= {"logprobs": list(m.logprobs)} if m.logprobs is not None else {}
        calls = [{"name": call.name, "arguments": call.arguments, "id": call.id} for call in m.calls]
        row |= {"calls": calls} if calls else {}
        row |= {key: value for key in SAID if (value := getattr(m, key)) is not None}
        row |= {"images": [[image.url, image.digest] for image in m.images]} if m.images else {}
        rows.append(row)
    return {"messages": rows, "tools": list(given.tools)} if given.tools else rows


def load(value: Any) -> Any:
    """What `dump` wrote; a list of it gives a tuple."""
    if is_object(value):
        return Conversation(load(value["messages"]).messages, tuple(value["tools"]))
    if value and (is_list(value[0]) or "messages" in value[0]):
        return tuple(load(one) for one in value)
    return Conversation(
        tuple(
            Message(
                row["role"],
                row["content"],
                row.get("weight"),
                tuple(Span(*span) for span in row.get("spans", ())),
                row.get("fields", {}),
                tuple(row["ids"]) if "ids" in row else None,
                tuple(row["logprobs"]) if "logprobs" in row else None,
                tuple(Call(**call) for call in row.get("calls", ())),
                images=tuple(Image(*image) for image in row.get("images", ())),
                **{key: row[key] for key in SAID if key in row},
            )
            for row in value
        )
    )


# ------------------------------------------------------------------------------------------- details


@dataclass(frozen=True, slots=True)
class _Content:
    """What the parts of a content come to."""

    text: str = ""
    spans: tuple[Span, ...] = ()
    thoughts: list[str] = field(default_factory=list[str])
    calls: tuple[Call, ...] = ()
    images: tuple[Image, ...] = ()


def _content(value: Any, where: str) -> _Content:
    """A text; or parts of it, each of which may say what it weighs, with thoughts, calls and images among
    them."""
    if isinstance(value, str):
        return _Content(value)
    if not is_list(value):
        raise DataError(f"{where}: the content must be text, not {value!r:.60}")
    said, thought = "", ""
    spans: list[Span] = []
    calls: list[Call] = []
    images: list[Image] = []
    for number, part in enumerate(value):
        place = f"{where}.content[{number}]"
        kind: Any = part.get("type") if is_object(part) else part
        if kind in ("image_url", "image"):
            said += IMAGE
            images.append(_image(part, place))
            continue
        found: Any = part.get("text", part.get("value")) if is_object(part) else None
        if kind not in ("text", "reasoning", "tool_call") or not isinstance(found, str):
            raise DataError(
                f"{place}: the content must be text and images, and this part of it is {kind!r:.60}: a model "
                "would learn answers to what it cannot see or hear"
            )
        if kind == "reasoning":
            thought += found
        elif kind == "tool_call":
            calls += written_calls(found, place)
        else:
            start, said = len(said), said + found
            weight = weight_of(part, place)
            spans += [Span(start, len(said), weight)] if weight is not None else []
    return _Content(said, tuple(spans), [thought] if thought else [], tuple(calls), tuple(images))


def _image(part: Mapping[str, Any], where: str) -> Image:
    """OpenAI's `{"type": "image_url", "image_url": {"url"}}`, and transformers' `{"type": "image"}` with
    `url`, `path` or `image`."""
    given: Any = part.get("image_url")
    given = given.get("url") if is_object(given) else given
    given = given or part.get("url") or part.get("path") or part.get("image")
    if not isinstance(given, str):
        raise DataError(f"{where}: an image must say its `url`, a path or a data: URI, not {given!r:.60}")
    return album.found(given, where)


def written_calls(text: str, where: str) -> tuple[Call, ...]:
    """The call, or the calls in a list, that stand as JSON text."""
    made: Any = arguments_of(f'{{"calls": {text}}}', where)["calls"]
    calls: list[Any] = made if is_list(made) else [made]
    if not all(is_object(call) and isinstance(call.get("name"), str) for call in calls):
        raise DataError(f"{where}: a call must have `name` and `arguments`, not {text!r:.60}")
    return tuple(Call(call["name"], arguments_of(call.get("arguments", {}), where)) for call in calls)


def _calls(value: Mapping[str, Any], where: str) -> tuple[Call, ...]:
    """`tool_calls`, nested as on the wire or flat, or the one `function_call` of old."""
    old = value.get("function_call")
    given = value.get("tool_calls") or ([old] if old else [])
    if not is_list(given):
        raise DataError(f"{where}: tool_calls must be a list, not {given!r:.60}")
    found: list[Call] = []
    for number, call in enumerate(given):
        place = f"{where}.tool_calls[{number}]"
        inner: Any = call.get("function", call) if is_object(call) else None
        if not is_object(inner) or not isinstance(inner.get("name"), str):
            raise DataError(f"{place} must name a function, and is {call!r:.60}")
        found.append(Call(inner["name"], arguments_of(inner.get("arguments", {}), place), call.get("id")))
    return tuple(found)


def _is_messages(value: Any) -> bool:
    return is_list(value) and all(is_object(m) and {"role", "content"} <= set(m) for m in value)
