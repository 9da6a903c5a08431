"""ShareGPT: turns with `from` and `value`, as LLaMA-Factory, axolotl and FastChat read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from turnsmith.data.formats import Parsed, Row
from turnsmith.data.loss_control import OF_ROW, STRETCHES, WEIGHT, stretches_of, weighed, weight_of
from turnsmith.data.messages import listed, message, say_weights, schemas_of, text_of, written_calls
from turnsmith.data.write import (
    CALL_IDS,
    IMAGES,
    NAMES,
    SAMPLED,
    THINKING,
    Writer,
    fields_but,
    of_messages,
    single,
)
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Example, Json, Message, Role, is_object

SHAREGPT: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
WRITTEN = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}
KEYS = frozenset(("from", "value", "role", "content", *WEIGHT, *STRETCHES))
COLUMNS = ("conversations", "conversation")
USED = (*COLUMNS, "system", "tools", *OF_ROW)
LIMITS = (
    IMAGES,
    *SAMPLED,
    CALL_IDS,
    NAMES,
    THINKING,
    of_messages("text beside calls", lambda m: replace(m, content="", spans=()) if m.calls else m),
    fields_but(KEYS),
)


def heard(row: Row) -> Conversation:
    """The conversation of the turns, with `system` in front and `tools` beside."""
    column = next((name for name in COLUMNS if name in row), COLUMNS[0])
    found = [Message("system", text_of(row["system"], "system"))] if row.get("system") else []
    turns = [turn(one, f"{column}[{number}]") for number, one in enumerate(listed(row[column], column))]
    whole = Conversation((*found, *turns), schemas_of(row.get("tools")))
    return weighed(whole, row, column, ahead=len(found))


def turn(given: Any, where: str) -> Message:
    """One turn. A `function_call` holds one call or a list of them as JSON text. OpenAI's messages are turns
    too: many files hold those under ShareGPT's name."""
    if is_object(given) and "role" in given and "from" not in given:
        return message(given, where)
    if not is_object(given) or "from" not in given or "value" not in given:
        raise DataError(f"{where} must have `from` and `value`")
    role = SHAREGPT.get(given["from"]) if isinstance(given["from"], str) else None
    if role is None:
        raise DataError(f"{where} has the unknown role {given['from']!r}; known are {', '.join(SHAREGPT)}")
    text, weight = text_of(given["value"], where), weight_of(given, where)
    fields = {key: one for key, one in given.items() if key not in KEYS and one is not None}
    if given["from"] == "function_call":
        return Message(role, "", weight, fields=fields, calls=written_calls(text, where))
    return Message(role, text, weight, stretches_of(given, where), fields)


def said(given: Conversation) -> dict[str, Json]:
    """`conversations`, and `system` and `tools` where there are any."""
    messages, row = given.messages, dict[str, Json]()
    if messages and messages[0].content and messages[0] == Message("system", messages[0].content):
        row["system"], messages = messages[0].content, messages[1:]
    tools = json.dumps(list(given.tools), ensure_ascii=False)
    return {
        "conversations": list(map(say_turn, messages)),
        **row,
        **({"tools": tools} if given.tools else {}),
    }


def say_turn(given: Message) -> Mapping[str, Json]:
    """A turn that `turn` reads."""
    if given.role == "text":
        raise DataError("it has no turn for raw text")
    name, value = WRITTEN[given.role], given.content
    if given.calls:
        if given.role != "assistant":
            raise DataError(f"only gpt calls functions, and here the {given.role} does")
        calls: list[Json] = [{"name": call.name, "arguments": call.arguments} for call in given.calls]
        name, value = "function_call", json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
    return {"from": name, "value": value, **say_weights(given), **given.fields}


def _row(example: Example) -> dict[str, Json]:
    return said(single(example))


@format("sharegpt", columns=(("conversations",), ("conversation",)), writer=Writer(_row, USED, LIMITS))
def sharegpt(row: Row) -> Parsed:
    """ShareGPT: `{"conversations": [{"from": "human", "value": ...}], "system"?, "tools"?}`.

    A `function_call` holds the call as JSON text, an `observation` what came of it. Turns may say what they
    weigh, as messages may.
    """
    return Parsed({"text": heard(row)}, USED)
