"""Preference pairs as LLaMA-Factory and ms-swift write them: on ShareGPT, on Alpaca, on messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from turnsmith.data.cells import unpacked
from turnsmith.data.formats import Parsed, Row
from turnsmith.data.formats.alpaca import INPUT, NO_EMPTY, ask, asked
from turnsmith.data.formats.openai import USED as OPENAI_COLUMNS
from turnsmith.data.formats.openai import heard as heard_messages
from turnsmith.data.formats.openai import said as said_messages
from turnsmith.data.formats.pairs import UNWEIGHED, VALUES, answers, both, fork, paired, told
from turnsmith.data.formats.sharegpt import LIMITS, heard, said, say_turn, turn
from turnsmith.data.formats.sharegpt import USED as SHAREGPT_COLUMNS
from turnsmith.data.messages import conversation, listed, plain, say, text_of
from turnsmith.data.write import BARE, OPENAI, Writer, before, open_again
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Example, Json, Message

PAIR = ("chosen", "rejected")
SHAREGPT_USED = (*SHAREGPT_COLUMNS, *PAIR, *VALUES)
ALPACA_USED = ("instruction", "system", "history", *PAIR, *VALUES)
SWIFT = ("rejected_response", "rejected_messages")
SWIFT_USED = (*OPENAI_COLUMNS, *SWIFT, *VALUES)


# ------------------------------------------------------------------------------------ on ShareGPT


def _sharegpt_row(example: Example) -> dict[str, Json]:
    start, *ends = answers(example)
    shown = Conversation(open_again(start.messages), start.tools)
    row = {name: say_turn(end) for name, end in zip(PAIR, ends, strict=True)}
    return {**said(shown), **row, **told(example)}


@format(
    "pairs-sharegpt",
    columns=(("conversations", "chosen", "rejected"),),
    writer=Writer(_sharegpt_row, SHAREGPT_USED, (*LIMITS, *before(fork)), VALUES),
)
def pairs_sharegpt(row: Row) -> Parsed:
    """LLaMA-Factory's pairs on ShareGPT: `conversations`, and one turn each as `chosen` and `rejected`."""
    chosen, rejected = (Conversation((turn(unpacked(row[name]), name),)) for name in PAIR)
    return paired(heard(row), (chosen, rejected), row, SHAREGPT_USED)


# -------------------------------------------------------------------------------------- on Alpaca


def _alpaca_row(example: Example) -> dict[str, Json]:
    start, chosen, rejected = answers(example)
    return {
        **ask(start, example.meta),
        "chosen": chosen.content,
        "rejected": rejected.content,
        **told(example),
    }


@format(
    "pairs-alpaca",
    columns=(("instruction", "chosen", "rejected"),),
    writer=Writer(_alpaca_row, ALPACA_USED, (*BARE, NO_EMPTY, INPUT, *before(fork), UNWEIGHED), VALUES),
)
def pairs_alpaca(row: Row) -> Parsed:
    """LLaMA-Factory's pairs on Alpaca: `instruction`, `input`, `system`, `history`, `chosen`, `rejected`."""
    start, meta = asked(row)
    chosen, rejected = (Conversation((Message("assistant", text_of(row[name], name)),)) for name in PAIR)
    return replace(paired(start, (chosen, rejected), row, ALPACA_USED), meta=meta)


# ------------------------------------------------------------------------------------ on messages


def _swift_row(example: Example) -> dict[str, Json]:
    at = fork(example)
    chosen, rejected = both(example)
    shown = Conversation((*open_again(chosen.messages[:at]), *chosen.messages[at:]), chosen.tools)
    others = rejected.messages[at:]
    row = {**said_messages(shown), **told(example)}
    single = len(chosen.messages) - at == len(others) == 1 and chosen.messages[-1].role == "assistant"
    if single and plain(others[0], "assistant"):
        return {**row, "rejected_response": others[0].content}
    whole = (*open_again(rejected.messages[:at]), *others)
    return {**row, "rejected_messages": [say(message) for message in whole]}


@format(
    "pairs-messages",
    columns=(("messages", "rejected_response"), ("messages", "rejected_messages")),
    writer=Writer(_swift_row, SWIFT_USED, (*OPENAI, *before(fork)), VALUES),
)
def pairs_messages(row: Row) -> Parsed:
    """ms-swift's pairs: `messages` end on the chosen answer; `rejected_response` (text, or the messages after
    the last question) is there in its place, or `rejected_messages` in place of all."""
    chosen = heard_messages(row)
    nothing = chosen.upto(0)
    if row.get("rejected_messages"):
        whole = conversation(listed(row["rejected_messages"], "rejected_messages"), "rejected_messages")
        return paired(nothing, (chosen, whole), row, SWIFT_USED)
    given: Any = row["rejected_response"]
    rejected = conversation(given, "rejected_response", role="assistant")
    text = isinstance(given, str) and len(rejected.messages) == 1
    ends = [place for place, m in enumerate(chosen.messages) if m.role == ("assistant" if text else "user")]
    if not ends:
        raise DataError("messages must have a question and an answer that was chosen")
    start = chosen.upto(ends[-1] if text else ends[-1] + 1)
    return paired(nothing, (chosen, start.then(*rejected.messages)), row, SWIFT_USED)
