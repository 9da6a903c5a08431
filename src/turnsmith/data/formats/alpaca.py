"""Alpaca: an instruction and its output, with what was said before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from turnsmith.data.cells import unpacked
from turnsmith.data.formats import Parsed, Row
from turnsmith.data.loss_control import weighed
from turnsmith.data.messages import text_of
from turnsmith.data.write import BARE, Limit, Writer, of_conversations, roles, single
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Example, Json, Message

USED = ("instruction", "output", "system", "history", "mask_history")


def asked(row: Row) -> tuple[Conversation, dict[str, Json]]:
    """All up to the instruction, and what goes to meta: `input`, so that it can be told apart again."""
    found = [Message("system", text_of(row["system"], "system"))] if row.get("system") else []
    history: Any = unpacked(row.get("history")) or ()
    if not isinstance(history, list | tuple):
        raise DataError(f"history must be a list of pairs, not {history!r:.60}")
    for number, pair in enumerate(cast("Sequence[Any]", history)):
        if not isinstance(pair, list | tuple) or len(cast("Sequence[Any]", pair)) != 2:
            raise DataError(f"history[{number}] must be a pair of question and answer")
        question, answer = text_of(pair[0], "history"), text_of(pair[1], "history")
        found += [Message("user", question), Message("assistant", answer)]
    text, meta = text_of(row["instruction"], "instruction"), dict[str, Json]()
    if row.get("input"):
        meta["input"] = text_of(row["input"], "input")
        text = f"{text}\n{meta['input']}"
    return Conversation((*found, Message("user", text))), meta


def ask(start: Conversation, meta: Mapping[str, Json]) -> dict[str, Json]:
    """`instruction`, `system` and `history` of a start that ends on a question.

    Raises DataError where the roles are not those of exchanges after a system text.
    """
    messages, row = start.messages, dict[str, Json]()
    if messages and messages[0].role == "system":
        row["system"], messages = messages[0].content, messages[1:]
    expected = ["user", "assistant"] * (len(messages) // 2) + ["user"]
    if [message.role for message in messages] != expected:
        raise DataError(
            f"it takes questions and answers in turn; the roles before the answer are {roles(start)}"
        )
    pairs: list[Json] = [
        [one.content, other.content] for one, other in zip(messages[:-1:2], messages[1::2], strict=True)
    ]
    row["instruction"] = messages[-1].content.removesuffix(f"\n{meta['input']}" if meta.get("input") else "")
    return row | ({"history": pairs} if pairs else {})


def _own_input(example: Example) -> Example:
    """The column `input` cannot stay if it is not the end of what is asked: it would be read as that."""
    given = example.meta.get("input")
    asked = [
        part.messages[-1].content if part.messages else ""
        for part in (part.opening for part in example.parts.values() if isinstance(part, Conversation))
    ]
    if not given or (isinstance(given, str) and all(text.endswith(f"\n{given}") for text in asked)):
        return example
    return replace(example, meta={key: one for key, one in example.meta.items() if key != "input"})


def _no_empty(given: Conversation) -> Conversation:
    starts = [(message.role, message.content) for message in given.messages[:1]] == [("system", "")]
    return replace(given, messages=given.messages[1:]) if starts else given


INPUT = Limit("columns that the format uses itself", _own_input)
NO_EMPTY = of_conversations("empty system messages", _no_empty)


def masks(given: Conversation) -> bool:
    """Whether the last answer alone learns, and nothing else is said of weights."""
    weights = [message.weight for message in given.messages]
    earlier = [m.weight for m in given.messages[:-1] if m.role == "assistant"]
    others = [m.weight for m in given.messages if m.role != "assistant"]
    return (
        bool(earlier)
        and set(earlier) == {0.0}
        and weights[-1] is None
        and not any(w is not None for w in others)
    )


def _weights(given: Conversation) -> Conversation:
    if masks(given):
        return given
    return replace(given, messages=tuple(replace(message, weight=None) for message in given.messages))


def _row(example: Example) -> dict[str, Json]:
    whole = single(example)
    if not whole.messages or whole.messages[-1].role != "assistant":
        raise DataError(f"it ends on an answer; the roles are {roles(whole)}")
    row = ask(whole.upto(-1), example.meta)
    output: dict[str, Json] = {"output": whole.messages[-1].content}
    return {**row, **output, **({"mask_history": True} if masks(whole) else {})}


LIMITS = (*BARE, NO_EMPTY, INPUT)


@format(
    "alpaca",
    columns=(("instruction", "output"),),
    writer=Writer(_row, USED, (*LIMITS, of_conversations("weights of messages", _weights))),
)
def alpaca(row: Row) -> Parsed:
    """Alpaca: `instruction`, `input` (joined by a newline if there is one), `output`, `system`, `history`.

    With `mask_history`, only the output learns. `input` stays in meta, so that it can be written again.
    """
    start, meta = asked(row)
    whole = start.then(Message("assistant", text_of(row["output"], "output")))
    history = {"mask_history": row.get("mask_history")}
    return Parsed({"text": weighed(whole, history, "history")}, USED, meta)
