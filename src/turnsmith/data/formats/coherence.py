"""Replies to a context that are more or less coherent with it: in levels, or with ratings of people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnsmith.data.formats import Parsed, Row, Skip
from turnsmith.data.messages import listed, text_of
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Message, Role

LEVELS = {  # columns of replies, and their level: the paper's
    "positive_responses": 3.0,
    "adversarial_negative_responses": 2.0,
    "random_negative_responses": 1.0,
}
JUDGED = ("context", "hyp_response", "human_score")
LEAST, MOST = 1.0, 5.0  # of people's ratings


@format(
    "levels",
    columns=(
        (
            "context",
            "positive_responses",
            "adversarial_negative_responses",
            "random_negative_responses",
        ),
    ),
)
def levels(row: Row) -> Parsed:
    """Rows of DailyDialog++: a `context` of utterances, and replies that fit it, that only share words with
    it, and that were drawn from elsewhere, as the part `replies` with the value `level`, 3, 2 and 1 of each.

    The context's last utterance is the user's. A level may be empty; a row of fewer than two levels has
    nothing to rank and is skipped.
    """
    start = _context(row["context"])
    replies, numbers = list[Conversation](), list[float]()
    for column, level in LEVELS.items():
        for text in listed(row[column], column):
            replies.append(start.then(Message("assistant", text_of(text, column))))
            numbers.append(level)
    if len(set(numbers)) < 2:
        raise Skip("replies of fewer than two levels")
    return Parsed({"replies": tuple(replies)}, ("context", *LEVELS), values={"level": tuple(numbers)})


@format("judged", columns=(("context", "hyp_response", "human_score"),))
def judged(row: Row) -> Parsed:
    """A reply that people rated, as the files of QuantiDCE have it: `context`, `hyp_response`, `human_score`
    from 1 to 5, which is the value `score`.

    Ratings of metrics, and what was really answered, go to the metadata.
    """
    score: Any = row["human_score"]
    if isinstance(score, bool) or not isinstance(score, int | float) or not LEAST <= score <= MOST:
        raise DataError(f"human_score must be a number from {LEAST:g} to {MOST:g}, not {score!r:.60}")
    reply = Message("assistant", text_of(row["hyp_response"], "hyp_response"))
    return Parsed({"text": _context(row["context"]).then(reply)}, JUDGED, values={"score": float(score)})


def _context(value: Any) -> Conversation:
    """Utterances of two people in turn, of whom the user speaks last."""
    said: Sequence[str] = [text_of(one, "context") for one in listed(value, "context")]
    if not said:
        raise DataError("the context is empty: nothing can be coherent with it")
    speakers: tuple[Role, Role] = ("assistant", "user")
    return Conversation(
        tuple(Message(speakers[(len(said) - number) % 2], text) for number, text in enumerate(said))
    )
