"""Exchanges: objects that hold what a person and what the assistant said, as ms-swift reads them."""

from __future__ import annotations

from dataclasses import replace

from turnsmith.data.formats import Parsed, Row
from turnsmith.data.formats.alpaca import NO_EMPTY
from turnsmith.data.loss_control import STRETCHES, WEIGHT, stretches_of, weight_of
from turnsmith.data.messages import listed, say_weights, text_of
from turnsmith.data.write import (
    CALL_IDS,
    CALLS,
    IMAGES,
    NAMES,
    SAMPLED,
    THINKING,
    TOOLS,
    Writer,
    fields_but,
    of_messages,
    roles,
    single,
)
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Example, Json, Message, is_object

USED = ("conversation", "system")
KEYS = frozenset(("human", "assistant", *WEIGHT, *STRETCHES))


def _bare(message: Message) -> Message:
    """What is asked is text and no more; an exchange has one place for weights and keys: the answer's."""
    return message if message.role == "assistant" else Message(message.role, message.content)


LIMITS = (
    IMAGES,
    *SAMPLED,
    CALLS,
    CALL_IDS,
    NAMES,
    THINKING,
    TOOLS,
    fields_but(KEYS),
    of_messages("weights and keys of questions", _bare),
    NO_EMPTY,
)


def _row(example: Example) -> dict[str, Json]:
    whole = single(example)
    messages, row = whole.messages, dict[str, Json]()
    if messages and messages[0].role == "system":
        row["system"], messages = messages[0].content, messages[1:]
    if [message.role for message in messages] != ["user", "assistant"] * (len(messages) // 2):
        raise DataError(f"it takes questions and answers in turn; the roles are {roles(whole)}")
    found: list[Json] = [
        {"human": asked.content, "assistant": said.content, **say_weights(said), **said.fields}
        for asked, said in zip(messages[::2], messages[1::2], strict=True)
    ]
    return {"conversation": found, **row}


@format(
    "exchanges",
    columns=(("conversation",),),
    marks={"conversation": r"""\[\s*\{["'](human|assistant)["']"""},
    writer=Writer(_row, USED, LIMITS),
)
def exchanges(row: Row) -> Parsed:
    """ms-swift's exchanges: `{"conversation": [{"human": ..., "assistant": ...}], "system"?}`."""
    found = [Message("system", text_of(row["system"], "system"))] if row.get("system") else []
    for number, one in enumerate(listed(row["conversation"], "conversation")):
        where = f"conversation[{number}]"
        if not is_object(one) or "human" not in one or "assistant" not in one:
            raise DataError(f"{where} must have `human` and `assistant`")
        fields = {key: value for key, value in one.items() if key not in KEYS and value is not None}
        said = Message("assistant", text_of(one["assistant"], where), weight_of(one, where))
        found.append(Message("user", text_of(one["human"], where)))
        found.append(replace(said, spans=stretches_of(one, where), fields=fields))
    return Parsed({"text": Conversation(tuple(found))}, USED)
