"""Texts with the categories that they violate, as OpenAI's moderation set has them."""

from __future__ import annotations

from turnsmith.data.formats import Parsed, Row
from turnsmith.data.messages import text_of
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Message

# sexual, hate, violence, harassment, self-harm, sexual with minors, threatening hate, graphic violence
LABELS = ("S", "H", "V", "HR", "SH", "S3", "H2", "V2")


@format("moderation", columns=(("prompt", "S3"), ("prompt", "V2"), ("prompt", "H2")))
def moderation(row: Row) -> Parsed:
    """`prompt`, what a user says, and 0 or 1 for each of S, H, V, HR, SH, S3, H2 and V2 that was judged.

    Metadata: `violated`, the labels that are 1; `unlabelled`, those that the row does not have, of which
    nothing is known; and the `prompt` itself, by which equal texts can be kept on one side of a split.
    Source: arXiv:2208.03274, and the README of openai/moderation-api-release.
    """
    given = {label: row[label] for label in LABELS if row.get(label) is not None}
    for label, value in given.items():
        if value not in (0, 1):
            raise DataError(f"`{label}` must be 0 or 1, not {value!r}")
    said = Conversation((Message("user", text_of(row["prompt"], "prompt")),))
    meta = {
        "violated": [label for label, value in given.items() if value],
        "unlabelled": [label for label in LABELS if label not in given],
    }
    return Parsed({"text": said}, LABELS, meta)
