"""Preference pairs with columns `chosen` and `rejected`: TRL's, and the transcripts of Anthropic's HH."""

from __future__ import annotations

import re
from typing import Any

from turnsmith.data.cells import number
from turnsmith.data.formats import Parsed, Row
from turnsmith.data.formats.prompted import say_prompted
from turnsmith.data.loss_control import silent
from turnsmith.data.messages import conversation
from turnsmith.data.write import (
    BARE,
    OPENAI,
    WEIGHTS,
    Limit,
    Writer,
    before,
    of_conversations,
    roles,
    value_of,
)
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Example, Json, Message, Role

VALUES = ("margin", "score_chosen", "score_rejected")  # how much better it is, and how good each
USED = ("prompt", "chosen", "rejected", "tools", *VALUES)
HH = ("chosen", "rejected", *VALUES)
TURN = re.compile(r"\n\n(Human|Assistant):(?: |$|(?=\n))")
SPEAKERS: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


# ------------------------------------------------------------------------------- what all pairs share


Two = tuple[Conversation, Conversation]


def paired(start: Conversation, ends: Two, row: Row, used: tuple[str, ...]) -> Parsed:
    """A pair, chosen first: what the ends share is put behind the start, and only what is after it learns."""
    ours, theirs = (end.messages for end in ends)
    shared = 0
    while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
        shared += 1
    if shared == len(ours) or shared == len(theirs):
        raise DataError("chosen and rejected do not differ, or one only continues the other")
    begun = silent(start.then(*ours[:shared]))
    if not begun.messages:
        raise DataError("chosen and rejected share no start and there is no prompt")
    parts = {"chosen": begun.then(*ours[shared:]), "rejected": begun.then(*theirs[shared:])}
    values = {name: number(row[name], name) for name in VALUES if row.get(name) not in (None, "")}
    return Parsed(parts, used, values=values)


def both(example: Example) -> Two:
    """The parts `chosen` and `rejected`. Raises DataError where there are others, or not these."""
    chosen, rejected = example.parts.get("chosen"), example.parts.get("rejected")
    right = isinstance(chosen, Conversation) and isinstance(rejected, Conversation)
    if not right or len(example.parts) != 2:
        raise DataError(
            f"it takes the parts chosen and rejected; there is {', '.join(example.parts) or 'none'}"
        )
    assert isinstance(chosen, Conversation)
    assert isinstance(rejected, Conversation)
    return chosen, rejected


def fork(example: Example) -> int:
    """Where chosen and rejected part. Raises DataError where they share nothing, or one is a part of the
    other."""
    chosen, rejected = both(example)
    if chosen.tools != rejected.tools:
        raise DataError("chosen and rejected have different tools, and there is one column for them")
    at = 0
    pairs = list(zip(chosen.messages, rejected.messages, strict=False))
    while at < len(pairs) and pairs[at][0] == pairs[at][1]:
        at += 1
    if at == 0 or at == len(pairs):
        raise DataError("chosen and rejected must share their start and then differ")
    return at


def answers(example: Example) -> tuple[Conversation, Message, Message]:
    """The start, and one answer each: what formats can hold in which chosen and rejected are single turns."""
    chosen, rejected = both(example)
    at = fork(example)
    ends = (*chosen.messages[at:], *rejected.messages[at:])
    if len(ends) != 2 or any(message.role != "assistant" for message in ends):
        ours, theirs = (roles(Conversation(given.messages[at:])) for given in (chosen, rejected))
        raise DataError(
            "chosen and rejected must be one answer each; after what they share, the roles are "
            f"{ours} and {theirs}"
        )
    return chosen.upto(at), *ends


def told(example: Example) -> dict[str, Json]:
    """The values that formats of pairs have columns for."""
    return {name: value_of(example, name) for name in VALUES if name in example.values}


def _same_again(example: Example) -> Example:
    """Weights that are what a format without them reads back: nothing learns before the fork."""
    bare = WEIGHTS.without(example)
    at = fork(bare)
    return of_conversations("", lambda c: silent(c, at)).without(bare)


UNWEIGHED = Limit("weights of messages", _same_again)


# ------------------------------------------------------------------------------------------- TRL's


def _row(example: Example) -> dict[str, Json]:
    chosen, rejected = both(example)
    at = fork(example)
    row = say_prompted(chosen.upto(at), chosen=chosen.messages[at:], rejected=rejected.messages[at:])
    if row["prompt"] == "":  # as text it would be no prompt
        row["prompt"] = [{"role": "user", "content": ""}]
    return {**row, **told(example)}


@format(
    "pairs",
    columns=(("chosen", "rejected"),),
    writer=Writer(_row, USED, (*OPENAI, *before(fork)), VALUES),
)
def pairs(row: Row) -> Parsed:
    """Preference pairs: `chosen` and `rejected` after `prompt`, or whole conversations that share their
    start.

    Only what comes after the shared start learns. A `prompt` that is in the shared start too is there once.
    `margin`, `score_chosen` and `score_rejected` become values.
    """
    given: Any = row.get("prompt")
    tools = row.get("tools")
    prompt = conversation(given or [], "prompt", role="user", tools=tools)
    chosen = conversation(row["chosen"], "chosen", role="assistant")
    rejected = conversation(row["rejected"], "rejected", role="assistant")
    size, shared = len(prompt.messages), 0
    while shared < len(chosen.messages) and chosen.messages[: shared + 1] == rejected.messages[: shared + 1]:
        shared += 1
    again = any(chosen.messages[at : at + size] == prompt.messages for at in range(shared - size + 1))
    return paired(prompt.upto(0) if again else prompt, (chosen, rejected), row, USED)


# ---------------------------------------------------------------------------------- Anthropic's HH


def transcript(text: Any, where: str) -> Conversation:
    """The turns of a text in which each begins with `Human:` or `Assistant:` after an empty line."""
    if not isinstance(text, str) or not TURN.match(text):
        raise DataError(f"{where} must be text that begins with an empty line and Human:, not {text!r:.60}")
    pieces = TURN.split(text)[1:]
    turns = zip(pieces[::2], pieces[1::2], strict=True)
    return Conversation(tuple(Message(SPEAKERS[speaker], said) for speaker, said in turns))


def _transcribed(given: Conversation) -> str:
    names = {role: name for name, role in SPEAKERS.items()}
    lines: list[str] = []
    for message in given.messages:
        if message.role not in names:
            raise DataError(f"its turns are Human's and Assistant's; the roles are {roles(given)}")
        lines.append(f"\n\n{names[message.role]}: {message.content}")
    text = "".join(lines)
    if transcript(text, "it").messages != tuple(Message(m.role, m.content) for m in given.messages):
        raise DataError("a message has text that would be read as the beginning of another turn")
    return text


def _hh_row(example: Example) -> dict[str, Json]:
    fork(example)
    chosen, rejected = both(example)
    return {"chosen": _transcribed(chosen), "rejected": _transcribed(rejected), **told(example)}


@format(
    "pairs-hh",
    columns=(("chosen", "rejected"),),
    marks={"chosen": r"\n\n(Human|Assistant):", "rejected": r"\n\n(Human|Assistant):"},
    writer=Writer(_hh_row, HH, (*BARE, *before(fork), UNWEIGHED), VALUES),
)
def hh(row: Row) -> Parsed:
    """Anthropic's HH: `chosen` and `rejected` are transcripts with turns after `Human:` and `Assistant:`.

    What they share does not learn. One space after the colon belongs to the mark.
    """
    chosen, rejected = transcript(row["chosen"], "chosen"), transcript(row["rejected"], "rejected")
    return paired(Conversation(()), (chosen, rejected), row, HH)
