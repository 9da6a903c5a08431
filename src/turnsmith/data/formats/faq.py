"""Rows of a table of questions and answers, as those keep them who answer the same things often."""

from __future__ import annotations

from turnsmith.data.formats import Parsed, Row
from turnsmith.data.messages import text_of
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Json, Message, is_list

COLUMNS = (
    ("questions", "answers"),
    ("questions", "answer"),
    ("Question", "Best Answer"),
    ("prompt", "answer"),
)
WORDINGS = "wordings"  # the key of the metadata under which further wordings of the question stand


@format(
    "faq",
    columns=(
        ("questions", "answers"),
        ("questions", "answer"),
        ("Question", "Best Answer"),
    ),
)
def faq(row: Row) -> Parsed:
    """A question, which the user asks, and its answer: `questions` with `answers` or `answer`, `Question`
    with `Best Answer` (TruthfulQA), or `prompt` with `answer`, as feedback is kept with its `source` and
    `rating`; that is not guessed, since prompts have answers for other reasons too.

    Of several `questions` that mean the same (MQuAKE) the first is asked, and the others are kept as
    `wordings` among the metadata.
    """
    used = next((pair for pair in COLUMNS if set(pair) <= set(row)), None)
    if used is None:
        raise DataError(
            f"no question and answer: that has {', or '.join(' and '.join(one) for one in COLUMNS)}"
        )
    asked, *others = _several(row[used[0]], used[0])
    text = Conversation((Message("user", asked), Message("assistant", text_of(row[used[1]], used[1]))))
    further: dict[str, Json] = {WORDINGS: [*others]} if others else {}
    return Parsed({"text": text}, used, meta=further)


def _several(value: Json, name: str) -> list[str]:
    if not is_list(value):
        return [text_of(value, name)]
    if not value:
        raise DataError(f"{name}: an empty list, where at least one question is expected")
    return [text_of(one, name) for one in value]
