"""What a reply has to look like to be a call of a certain tool, as a chat template writes calls."""

from __future__ import annotations

import re
from typing import NamedTuple

from turnsmith.data.parse import Grammar, writes
from turnsmith.data.probe import Known
from turnsmith.errors import RenderError
from turnsmith.types import Call, Message

MARK = {"a_key_that_is_found": "a value that is found"}
FOUND = re.compile(r'\{\s*"a_key_that_is_found"\s*:\s*"a value that is found"\s*\}')


class Around(NamedTuple):
    """The text in front of a call's arguments, which are a JSON object, and behind them."""

    before: str
    after: str


def around(known: Known, grammar: Grammar, name: str) -> Around:
    """What the template writes around the arguments of a reply that calls the tool `name` and says nothing
    else.

    Raises RenderError where it has no calls, where they are written in a notation that is not read back, or
    where arguments are no JSON in it.
    """
    if known.template.dialect.arguments is None:
        raise RenderError("this chat template has no calls of tools: none can be forced")
    if grammar.notation is None:
        raise RenderError("this chat template writes calls in a notation that cannot be read back")
    text = writes(known, Message("assistant", "", calls=(Call(name, MARK, id="call00001"),)))
    places = list(FOUND.finditer(text))
    read = [Call(call.name, call.arguments) for call in grammar.read(text).calls]
    if len(places) != 1 or read != [Call(name, MARK)]:
        raise RenderError(
            f"this chat template writes the arguments of a call in a notation that is no JSON "
            f"({grammar.notation.__name__}): a call cannot be forced. Leave `tool_choice` at `auto`"
        )
    return Around(text[: places[0].start()], text[places[0].end() :])
