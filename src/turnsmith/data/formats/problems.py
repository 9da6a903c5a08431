"""Problems with their solutions, as data sets of mathematics name them."""

from __future__ import annotations

from turnsmith.data.formats import Parsed, Row
from turnsmith.data.messages import text_of
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Json, Message, is_list

COLUMNS = (("question", "answer"), ("query", "response"), ("problem", "solution"), ("source", "target"))


@format(
    "problems",
    columns=(("question", "answer"), ("query", "response"), ("problem", "solution"), ("source", "target")),
)
def problems(row: Row) -> Parsed:
    """A problem, which a user says, and its solution, which the assistant does.

    Their columns are `question` and `answer` (GSM8K), `query` and `response` (MetaMath), `problem` and
    `solution` (MATH), or `source` and `target` (Masked Thought); a list of one text is that text.
    """
    used = next((pair for pair in COLUMNS if set(pair) <= set(row)), None)
    if used is None:
        pairs = ", or ".join(" and ".join(pair) for pair in COLUMNS)
        raise DataError(f"no problem: that has {pairs}")
    asked, answer = (text_of(_only(row[name], name), name) for name in used)
    text = Conversation((Message("user", asked), Message("assistant", answer)))
    return Parsed({"text": text}, used)


def _only(value: Json, name: str) -> Json:
    if not is_list(value):
        return value
    if len(value) != 1:
        raise DataError(f"{name}: a list of {len(value)}, where one text is expected")
    return value[0]
