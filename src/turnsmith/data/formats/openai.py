"""Messages as OpenAI writes them: the form that everything is converted to."""

from __future__ import annotations

from turnsmith.data.formats import Parsed, Row
from turnsmith.data.loss_control import OF_ROW, weighed
from turnsmith.data.messages import conversation, say
from turnsmith.data.write import OPENAI, Writer, single
from turnsmith.registry import format
from turnsmith.types import Conversation, Example, Json

USED = ("messages", "tools", "functions", *OF_ROW)


def said(given: Conversation) -> dict[str, Json]:
    """`messages`, and `tools` where there are any."""
    row: dict[str, Json] = {"messages": [say(message) for message in given.messages]}
    return row | ({"tools": list(given.tools)} if given.tools else {})


def heard(row: Row) -> Conversation:
    """The conversation of `messages` and `tools`."""
    functions = row.get("functions") or ()  # as they were before there were tools
    wrapped = [{"type": "function", "function": one} for one in functions]
    found = conversation(row["messages"], "messages", tools=row.get("tools") or wrapped)
    return weighed(found, row, "messages")


def _row(example: Example) -> dict[str, Json]:
    return said(single(example))


@format("messages", columns=(("messages",),), writer=Writer(_row, USED, OPENAI))
def messages(row: Row) -> Parsed:
    """OpenAI messages: `{"messages": [{"role", "content", ...}], "tools"?}`.

    With tool calls (arguments as an object or as JSON text), content in parts of text, reasoning, and what
    the loss weighs as OpenAI, axolotl, ms-swift, verl and LLaMA-Factory say it. `developer` reads as
    `system`. Written with arguments as JSON text, and with `weight` and `spans` where there are any.
    """
    return Parsed({"text": heard(row)}, USED)
