"""Replies that have to be the call of a tool."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from turnsmith.data.encode import special_tokens
from turnsmith.types import Json

if TYPE_CHECKING:
    from turnsmith.data.render import Renderer

TIGHT = {"x-guidance": {"whitespace_pattern": " ?"}}  # templates write arguments on one line


def call_grammar(renderer: Renderer, tools: Sequence[Mapping[str, Json]]) -> str:
    """The grammar of replies that are one call of one of these tools, as the chat template writes it, with
    arguments that keep to the tool's schema.

    tools: as OpenAI has them. Raises RenderError where the template's calls cannot be forced.
    """
    special = special_tokens(renderer.tokenizer)
    rules: list[str] = []
    for number, tool in enumerate(tools):
        function: Any = tool.get("function", tool)
        around = renderer.around(str(function["name"]))
        before, after = (_literal(text, special) for text in around)
        schema = json.dumps({**TIGHT, **(function.get("parameters") or {"type": "object"})})
        rules += [
            f"call_{number}: {before} arguments_{number} {after}",
            f"arguments_{number}: %json {schema}",
        ]
    calls = " | ".join(f"call_{number}" for number in range(len(tools)))
    return "\n".join([f"start: {calls}", *rules])


def _literal(text: str, special: Mapping[str, int]) -> str:
    """A text as a grammar has it: control tokens by their ids, and in quotes what lies between them."""
    longest = sorted(special, key=len, reverse=True)
    pieces = re.split(f"({'|'.join(map(re.escape, longest))})", text) if special else [text]
    return " ".join(
        f"<[{special[piece]}]>" if piece in special else json.dumps(piece) for piece in pieces if piece
    )
