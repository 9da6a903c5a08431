"""Texts, or pairs of them, with the class that they belong to, as GLUE's tasks have them."""

from __future__ import annotations

from turnsmith.data.formats import Parsed, Row
from turnsmith.data.messages import text_of
from turnsmith.registry import format
from turnsmith.types import Conversation, Message

PARTS = {"text_a": "text", "text_b": "second"}  # column to part


@format("classified", columns=(("text_a", "label"),))
def classified(row: Row) -> Parsed:
    """`text_a` and, of pairs, `text_b`, as raw text: the parts `text` and `second`; `label` and all else is
    meta. The stage `labelled` makes of them what a model can be asked."""
    texts = {
        part: text_of(row[column], column) for column, part in PARTS.items() if row.get(column) is not None
    }
    parts = {part: Conversation((Message("text", text),)) for part, text in texts.items()}
    return Parsed(parts, tuple(PARTS))
