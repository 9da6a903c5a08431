"""Dialogues with a summary, as SAMSum and DialogSum have them."""

from __future__ import annotations

from turnsmith.data.formats import Parsed, Row
from turnsmith.data.messages import text_of
from turnsmith.registry import format
from turnsmith.types import Conversation, Message

ASKED = "Summarise this conversation in a few sentences.\n\n{dialogue}"
USED = ("dialogue", "summary")


@format("summarised", columns=(("dialogue", "summary"),))
def summarised(row: Row) -> Parsed:
    """`dialogue` and `summary`: a chat in which the one is asked for and the other is the reply. All else is
    meta."""
    dialogue, summary = (text_of(row[name], name) for name in USED)
    return Parsed({"text": to_summarise(dialogue).then(Message("assistant", summary.strip()))}, USED)


def to_summarise(dialogue: str) -> Conversation:
    """The request for a dialogue's summary."""
    return Conversation((Message("user", ASKED.format(dialogue=dialogue.strip())),))
