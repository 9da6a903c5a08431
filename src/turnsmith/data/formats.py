"""Rows to examples. A format is a function of one row; which one a file has is guessed from its columns, and
said."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from turnsmith.errors import DataError
from turnsmith.registry import Entry, Registry, format
from turnsmith.types import (
    ROLES,
    Call,
    Conversation,
    Example,
    Json,
    Message,
    Role,
    Span,
    is_list,
    is_object,
)

Row = Mapping[str, Any]
SAID = ("call_id", "name", "thinking")  # texts of a message that may be absent
SHAREGPT: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
}


class Skip(Exception):
    """Raised by a format for a row that is sound but of no use; counted under its text."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a format made of a row. used: the columns that are in it; the others become meta."""

    parts: Mapping[str, Conversation]
    used: tuple[str, ...]
    meta: Mapping[str, Json] = field(default_factory=dict[str, Json])
    values: Mapping[str, float] = field(default_factory=dict[str, float])


# ------------------------------------------------------------------------------------------- formats


@format("messages", columns=(("messages",),))
def messages(row: Row) -> Parsed:
    """OpenAI messages: `{"messages": [{"role", "content", "weight"?}]}`. `developer` reads as `system`."""
    _refuse(row, "tools", "functions")
    return Parsed({"text": conversation(row["messages"], "messages")}, ("messages",))


@format("sharegpt", columns=(("conversations",), ("conversation",)))
def sharegpt(row: Row) -> Parsed:
    """ShareGPT: `{"conversations": [{"from": "human", "value": ...}], "system"?}`."""
    _refuse(row, "tools")
    column = "conversations" if "conversations" in row else "conversation"
    turns = _list(row[column], column)
    found = [Message("system", _text(row["system"], "system"))] if row.get("system") else []
    for number, turn in enumerate(turns):
        where = f"{column}[{number}]"
        if not is_object(turn) or "from" not in turn or "value" not in turn:
            raise DataError(f"{where} must have `from` and `value`")
        role = SHAREGPT.get(turn["from"])
        if role is None:
            raise DataError(f"{where} has the unknown role {turn['from']!r}; known are {', '.join(SHAREGPT)}")
        found.append(Message(role, _text(turn["value"], where), weight=_weight(turn, where)))
    return Parsed({"text": Conversation(tuple(found))}, (column, "system"))


@format("alpaca", columns=(("instruction", "output"),))
def alpaca(row: Row) -> Parsed:
    """Alpaca: `instruction`, `input` (joined by a newline if there is one), `output`, `system`, `history`."""
    found = [Message("system", _text(row["system"], "system"))] if row.get("system") else []
    history: Sequence[Any] = row.get("history") or ()
    for number, pair in enumerate(history):
        if not isinstance(pair, list | tuple) or len(cast("Sequence[Any]", pair)) != 2:
            raise DataError(f"history[{number}] must be a pair of question and answer")
        found += [Message("user", _text(pair[0], "history")), Message("assistant", _text(pair[1], "history"))]
    asked = _text(row["instruction"], "instruction")
    if row.get("input"):
        asked = f"{asked}\n{_text(row['input'], 'input')}"
    found += [Message("user", asked), Message("assistant", _text(row["output"], "output"))]
    return Parsed(
        {"text": Conversation(tuple(found))}, ("instruction", "input", "output", "system", "history")
    )


@format("completion", columns=(("prompt", "completion"),))
def completion(row: Row) -> Parsed:
    """`prompt` and `completion`, as text or as messages; only the completion learns."""
    asked = _silent(conversation(row["prompt"], "prompt", role="user"))
    answer = conversation(row["completion"], "completion", role="assistant")
    return Parsed({"text": asked.then(*answer.messages)}, ("prompt", "completion"))


@format("pairs", columns=(("chosen", "rejected"),))
def pairs(row: Row) -> Parsed:
    """Preference pairs: `chosen` and `rejected` after `prompt`, or whole conversations that share their
    start.

    Only what comes after the shared start learns. A `prompt` that is in the shared start too is there once.
    """
    given = row.get("prompt")
    prompt = conversation(given, "prompt", role="user").messages if given else ()
    chosen = conversation(row["chosen"], "chosen", role="assistant").messages
    rejected = conversation(row["rejected"], "rejected", role="assistant").messages
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == len(chosen) or shared == len(rejected):
        raise DataError("chosen and rejected do not differ, or one only continues the other")
    again = any(chosen[at : at + len(prompt)] == prompt for at in range(shared - len(prompt) + 1))
    start = _silent(Conversation((*(() if again else prompt), *chosen[:shared])))
    if not start.messages:
        raise DataError("chosen and rejected share no start and there is no prompt")
    parts = {"chosen": start.then(*chosen[shared:]), "rejected": start.then(*rejected[shared:])}
    return Parsed(parts, ("prompt", "chosen", "rejected"))


@format("text", columns=(("text",),))
def text(row: Row) -> Parsed:
    """`text` alone: every token learns, no template is put around it."""
    return Parsed({"text": Conversation((Message("text", _text(row["text"], "text")),))}, ("text",))


@format("chitchat", columns=(("messages", "start"),))
def chitchat(row: Row) -> Parsed:
    """Chats of the chitchat data set: turns of time-stamped messages of two people.

    What one sender writes in a row is joined by newlines; who speaks first is the user. `people` goes to
    meta.
    """
    said = [message for turn in row["messages"] for message in turn]
    people = list(dict.fromkeys(message["sender"] for message in said))
    if len(people) != 2:
        raise Skip(f"{len(people)} senders instead of two")
    joined: list[tuple[str, str]] = []
    for message in said:
        words = message["text"].strip()
        if words and joined and joined[-1][0] == message["sender"]:
            joined[-1] = (joined[-1][0], f"{joined[-1][1]}\n{words}")
        elif words:
            joined.append((message["sender"], words))
    first = joined[0][0] if joined else ""
    found = [Message("user" if sender == first else "assistant", words) for sender, words in joined]
    return Parsed({"text": Conversation(tuple(found))}, ("messages",), {"people": sorted(people)})


@format("turnsmith", columns=(("parts", "meta"),))
def turnsmith(row: Row) -> Parsed:
    """What `to_row` writes: examples as they are, nothing lost."""
    if not is_object(row["meta"]):
        raise DataError(f"`meta` must be an object, not {row['meta']!r:.60}")
    parts = {name: _load(part) for name, part in row["parts"].items()}
    values = {str(name): float(value) for name, value in row.get("values", {}).items()}
    return Parsed(parts, ("parts", "values", "meta"), row["meta"], values)


# ------------------------------------------------------------------------------- guessing and reading


def guess(rows: Sequence[Row], entries: Sequence[Entry]) -> str:
    """The format whose columns all rows have; the more columns it asks for, the better it fits.

    Raises DataError, naming the columns found, where none fits or two fit equally well.
    """
    common = set(rows[0]).intersection(*rows[1:])
    fits: dict[str, int] = {}
    for entry in entries:
        columns = entry.traits.get("columns", ())
        assert isinstance(columns, list | tuple)
        sizes = [
            len(ones) for ones in columns if isinstance(ones, list | tuple) and set(map(str, ones)) <= common
        ]
        if sizes:
            fits[entry.name] = max(sizes)
    best = [name for name, size in fits.items() if size == max(fits.values())]
    if len(best) != 1:
        what = f"{' and '.join(best)} fit equally well" if best else "no known format has them"
        known = ", ".join(entry.name for entry in entries)
        raise DataError(
            f"columns {', '.join(sorted(common)) or '(none in common)'}: {what}. Say which: {known}"
        )
    return best[0]


def examples(
    rows: Iterable[tuple[str, Row]], name: str, registry: Registry, where: str
) -> tuple[list[Example], Counter[str]]:
    """Examples of all rows, and how many rows were skipped for which reason.

    Raises DataError naming file and row where a row does not keep to the format.
    """
    parse: Callable[[Row], Parsed] = registry.function("format", name)
    found: list[Example] = []
    skipped: Counter[str] = Counter()
    seen: set[str] = set()
    for id, row in rows:
        try:
            parsed = parse(row)
        except Skip as reason:
            skipped[str(reason)] += 1
            continue
        except DataError as error:
            raise DataError(f"{where}, row {id!r}: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{where}, row {id!r} is no {name} row ({type(error).__name__}: {error})"
            ) from None
        if id in seen:
            raise DataError(f"{where}: two rows have the id {id!r}; ids must differ")
        seen.add(id)
        rest = {key: value for key, value in row.items() if key not in parsed.used}
        found.append(Example(parsed.parts, parsed.values, {**rest, **parsed.meta, "id": id}))
    return found, skipped


def to_row(example: Example) -> dict[str, Json]:
    """An example as JSON that the `turnsmith` format reads back."""
    parts: dict[str, Json] = {}
    for name, part in example.parts.items():
        parts[name] = [_dump(one) for one in part] if isinstance(part, tuple) else _dump(part)
    return {"id": example.id, "parts": parts, "values": dict(example.values), "meta": dict(example.meta)}


def conversation(value: Any, where: str, role: Role | None = None) -> Conversation:
    """A list of messages, or, where `role` is given, a text that becomes one message of that role."""
    if isinstance(value, str) and role is not None and not _is_messages(_parsed(value)):
        return Conversation((Message(role, value),))
    return Conversation(tuple(_message(m, f"{where}[{i}]") for i, m in enumerate(_list(value, where))))


# ------------------------------------------------------------------------------------------- details


def _message(value: Any, where: str) -> Message:
    if not is_object(value) or "role" not in value:
        raise DataError(f"{where} must be an object with `role` and `content`")
    _refuse(value, "tool_calls", "function_call", where=where)
    role = "system" if value["role"] == "developer" else value["role"]
    if role not in ROLES:
        raise DataError(f"{where} has the unknown role {role!r}; known are {', '.join(ROLES)}, developer")
    known = {"role", "content", "weight", "spans"}
    extra = {key: field for key, field in value.items() if key not in known and field is not None}
    spans = tuple(Span(*span) for span in value.get("spans", ()))
    return Message(role, _text(value.get("content"), where), _weight(value, where), spans, extra)


def _text(value: Any, where: str) -> str:
    if is_list(value) and all(is_object(b) and b.get("type") == "text" for b in value):
        value = "".join(block["text"] for block in value)
    if not isinstance(value, str):
        raise DataError(f"{where}: the content must be text, not {value!r:.60}")
    return value


def _weight(message: Mapping[str, Any], where: str) -> float | None:
    weight = message.get("weight")
    if weight is None:
        return None
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise DataError(f"{where}: the weight must be a number of at least 0, not {weight!r}")
    return float(weight)


def _parsed(value: Any) -> Any:
    """Messages that were written into a cell of a table; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            pass
    return value


def _is_messages(value: Any) -> bool:
    return is_list(value) and all(
        is_object(m) and {"role", "content"} <= set(m) for m in value
    )


def _list(value: Any, where: str) -> list[Any]:
    value = _parsed(value)
    if not is_list(value):
        raise DataError(f"{where} must be a list of messages, not {value!r:.60}")
    return value


def _refuse(value: Mapping[str, Any], *keys: str, where: str = "the row") -> None:
    for key in keys:
        if value.get(key):
            raise DataError(
                f"{where} has `{key}`: tool calls are not read yet, and leaving them out would be wrong"
            )


def _silent(conversation: Conversation) -> Conversation:
    """The same messages, none of which learns unless it says so itself."""
    silent = (replace(m, weight=0.0 if m.weight is None else m.weight) for m in conversation.messages)
    return replace(conversation, messages=tuple(silent))


def _dump(conversation: Conversation) -> Json:
    """A list of messages; an object with the tools beside them where there are any."""
    rows: list[Json] = []
    for m in conversation.messages:
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
    return {"messages": rows, "tools": list(conversation.tools)} if conversation.tools else rows


def _load(value: Any) -> Any:
    if is_object(value):
        return Conversation(_load(value["messages"]).messages, tuple(value["tools"]))
    if value and (is_list(value[0]) or "messages" in value[0]):
        return tuple(_load(one) for one in value)
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
