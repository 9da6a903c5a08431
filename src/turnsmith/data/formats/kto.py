"""Single answers with a verdict, for KTO: on prompts, on messages, on ShareGPT and on Alpaca."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from turnsmith.data.cells import flag
from turnsmith.data.formats import Parsed, Row
from turnsmith.data.formats.alpaca import INPUT, NO_EMPTY, ask, asked
from turnsmith.data.formats.openai import USED as MESSAGES
from turnsmith.data.formats.openai import heard as heard_messages
from turnsmith.data.formats.openai import said as said_messages
from turnsmith.data.formats.prompted import USED as PROMPTED
from turnsmith.data.formats.prompted import border, completed, say_completed
from turnsmith.data.formats.sharegpt import LIMITS, heard, said
from turnsmith.data.formats.sharegpt import USED as SHAREGPT
from turnsmith.data.loss_control import silent
from turnsmith.data.messages import text_of
from turnsmith.data.write import (
    BARE,
    OPENAI,
    WEIGHTS,
    Limit,
    Writer,
    answer,
    before,
    of_conversations,
    open_again,
    opening,
    roles,
    single,
    value_of,
)
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Example, Json, Message

LABEL = "label"  # the value: 1 where the answer is wanted, 0 where it is not
ALPACA = ("instruction", "output", "system", "history")


def judged(whole: Conversation, row: Row, column: str, used: tuple[str, ...]) -> Parsed:
    """A conversation whose answer was judged in `column`."""
    return Parsed({"text": whole}, (*used, column), values={LABEL: float(flag(row[column], column))})


def last(whole: Conversation) -> Conversation:
    """Only the last answer is judged, so nothing before it learns."""
    return silent(whole, answer(whole))


def verdict(example: Example) -> bool:
    """The label as the formats write it."""
    label = value_of(example, LABEL)
    if label not in (0.0, 1.0):
        raise DataError(f"the value {LABEL!r} must be 1 or 0, not {label:g}")
    return label == 1.0


def _shown(example: Example) -> Conversation:
    whole, at = single(example), opening(example)
    return Conversation((*open_again(whole.messages[:at]), *whole.messages[at:]), whole.tools)


def _again(example: Example) -> Example:
    bare, at = WEIGHTS.without(example), opening(example)
    return of_conversations("", lambda c: silent(c, at)).without(bare)


def _writer(
    row: Callable[[Example], dict[str, Json]], column: str, used: tuple[str, ...], *limits: Limit
) -> Writer:
    return Writer(lambda e: {**row(e), column: verdict(e)}, (*used, column), limits, (LABEL,))


# -------------------------------------------------------------------------------------- on prompts


@format(
    "kto",
    columns=(("prompt", "completion", "label"),),
    marks={"label": "(?i)(true|false|[01])$"},
    writer=_writer(say_completed, "label", PROMPTED, *OPENAI, *before(border)),
)
def kto(row: Row) -> Parsed:
    """Single answers with a verdict: `prompt`, `completion`, and the `label`, which becomes a value."""
    return judged(completed(row), row, "label", PROMPTED)


# ------------------------------------------------------------------------------------- on messages


@format(
    "kto-messages",
    columns=(("messages", "label"),),
    marks={"label": "(?i)(true|false|[01])$"},
    writer=_writer(lambda e: said_messages(_shown(e)), "label", MESSAGES, *OPENAI, *before(opening)),
)
def kto_messages(row: Row) -> Parsed:
    """Single answers with a verdict, as ms-swift and LLaMA-Factory have them: `messages` and `label`."""
    return judged(last(heard_messages(row)), row, "label", MESSAGES)


# ------------------------------------------------------------------------------------- on ShareGPT


@format(
    "kto-sharegpt",
    columns=(("conversations", "kto_tag"),),
    writer=_writer(lambda e: said(_shown(e)), "kto_tag", SHAREGPT, *LIMITS, *before(opening)),
)
def kto_sharegpt(row: Row) -> Parsed:
    """Single answers with a verdict on ShareGPT, as LLaMA-Factory documents them: with `kto_tag`."""
    return judged(last(heard(row)), row, "kto_tag", SHAREGPT)


# --------------------------------------------------------------------------------------- on Alpaca


def _alpaca_row(example: Example) -> dict[str, Json]:
    whole = single(example)
    if not whole.messages or whole.messages[-1].role != "assistant":
        raise DataError(f"it ends on an answer; the roles are {roles(whole)}")
    return {**ask(whole.upto(-1), example.meta), "output": whole.messages[-1].content}


@format(
    "kto-alpaca",
    columns=(("instruction", "output", "kto_tag"),),
    writer=_writer(
        _alpaca_row,
        "kto_tag",
        ALPACA,
        *BARE,
        NO_EMPTY,
        INPUT,
        *before(opening),
        Limit("weights of messages", _again),
    ),
)
def kto_alpaca(row: Row) -> Parsed:
    """Single answers with a verdict on Alpaca: `instruction`, `input`, `output`, and `kto_tag`."""
    start, meta = asked(row)
    whole = start.then(Message("assistant", text_of(row["output"], "output")))
    return replace(judged(last(whole), row, "kto_tag", ALPACA), meta=meta)
