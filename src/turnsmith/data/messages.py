"""Messages as JSON: as OpenAI and its followers write them, and as Turnsmith keeps them, nothing lost."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from turnsmith.errors import DataError
from turnsmith.types import ROLES, Call, Conversation, Json, Message, Role, Span, is_list, is_object

SAID = ("call_id", "name", "thinking")  # texts of a message that may be absent
ROLE: dict[str, Role] = {"developer": "system", "function": "tool"}  # other names of roles
THINKING = ("thinking", "reasoning_content", "reasoning")
# How others say what a message's loss weighs: OpenAI, axolotl, ms-swift (two), verl (two).
WEIGHT = ("weight", "train", "loss", "loss_scale", "loss_mask", "trainable")
KNOWN = {"role", "content", "spans", "name", "tool_calls", "function_call", "tool_call_id", "train_detail"}


def conversation(value: Any, where: str, role: Role | None = None, tools: Any = None) -> Conversation:
    """A list of messages, or, where `role` is given, a text that becomes one message of that role.

    tools: schemas of what may be called, as a list or as its JSON text. Raises DataError naming the message.
    """
    schemas = schemas_of(tools)
    if isinstance(value, str) and role is not None and not _is_messages(_parsed(value)):
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
    calls = _calls(value, where)
    content = value.get("content")
    said, spans = _content("" if content is None and calls else content, where)
    thought = [value[key] for key in THINKING if value.get(key) is not None]
    read = {*KNOWN, *THINKING, *WEIGHT}
    return Message(
        role,
        said,
        weight_of(value, where),
        (*spans, *_details(value, where), *(Span(*span) for span in value.get("spans", ()))),
        {key: field for key, field in value.items() if key not in read and field is not None},
        calls=calls,
        call_id=value.get("tool_call_id"),
        name=value.get("name"),
        thinking=text_of(thought[0], where) if thought else None,
    )


def text_of(value: Any, where: str) -> str:
    """A text, or parts of text put together; DataError for anything else."""
    return _content(value, where)[0]


def weight_of(value: Mapping[str, Any], where: str) -> float | None:
    """What the loss on a message weighs, however it is said; None where nothing is.

    Raises DataError where it is no number of at least 0, and where two ways of saying it differ.
    """
    found: dict[str, float] = {}
    for key in (key for key in WEIGHT if value.get(key) is not None):
        weight = value[key]
        flag = isinstance(weight, bool)
        number = isinstance(weight, int | float) and (not flag or key != "weight")
        if not number or not 0 <= weight < math.inf:
            raise DataError(f"{where}: the {key} must be a number of at least 0, not {weight!r}")
        found[key] = float(weight)
    if len(set(found.values())) > 1:
        said = " and ".join(f"{key} {weight:g}" for key, weight in found.items())
        raise DataError(f"{where} says {said}: which of them counts?")
    return next(iter(found.values()), None)


def schemas_of(tools: Any) -> tuple[Mapping[str, Json], ...]:
    """Schemas of tools from a list or from its JSON text; empty where there is nothing."""
    tools = _parsed(tools)
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


def silent(given: Conversation) -> Conversation:
    """The same messages, none of which learns unless it says so itself."""
    quiet = (replace(m, weight=0.0 if m.weight is None else m.weight) for m in given.messages)
    return replace(given, messages=tuple(quiet))


def listed(value: Any, where: str) -> list[Any]:
    """A list of messages, which may stand as JSON text in a cell of a table."""
    value = _parsed(value)
    if not is_list(value):
        raise DataError(f"{where} must be a list of messages, not {value!r:.60}")
    return value


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
                **{key: row[key] for key in SAID if key in row},
            )
            for row in value
        )
    )


# ------------------------------------------------------------------------------------------- details


def _content(value: Any, where: str) -> tuple[str, tuple[Span, ...]]:
    """The text, and what those parts of it weigh that say so themselves."""
    if isinstance(value, str):
        return value, ()
    if not is_list(value):
        raise DataError(f"{where}: the content must be text, not {value!r:.60}")
    said = ""
    spans: list[Span] = []
    for part in value:
        if not is_object(part) or part.get("type") != "text":
            kind: Any = part.get("type") if is_object(part) else part
            raise DataError(f"{where}: the content must be text, and a part of it is {kind!r:.60}")
        start, said = len(said), said + str(part["text"])
        weight = weight_of(part, where)
        spans += [Span(start, len(said), weight)] if weight is not None else []
    return said, tuple(spans)


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


def _details(value: Mapping[str, Any], where: str) -> list[Span]:
    """Axolotl's `train_detail`: stretches of characters, the last one included."""
    found: list[Span] = []
    for detail in value.get("train_detail") or ():
        try:
            start, stop, train = detail["begin_offset"], detail["end_offset"] + 1, detail["train"]
        except (KeyError, TypeError):
            raise DataError(
                f"{where}: train_detail needs begin_offset, end_offset and train, not {detail!r:.60}"
            ) from None
        found.append(Span(start, stop, float(train)))
    return found


def _parsed(value: Any) -> Any:
    """A list that was written into a cell of a table; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            pass
    return value


def _is_messages(value: Any) -> bool:
    return is_list(value) and all(is_object(m) and {"role", "content"} <= set(m) for m in value)
