"""What is in a data file."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from turnsmith.recipes import components
from turnsmith.types import Conversation, Example, Message


def describe(data: str | Path, *, format: str = "auto", use: Sequence[Path | str] = ()) -> dict[str, Any]:
    """Format, counts, roles, lengths, duplicates, and the first example.

    data: a file, or shipped data such as chitchat. format: guessed where it is `auto`. use: files with
    formats of your own.
    """
    from turnsmith.data import formats, read

    known = components(use)
    path = read.locate(str(data))
    examples, name, skipped = formats.from_file(path, format, known)
    rows = len(examples) + skipped.total()
    found = {"file": str(path), "format": name, "guessed": format == "auto", "rows": rows}
    return {**found, "skipped": dict(skipped), **_contents(examples)}


def _contents(examples: Sequence[Example]) -> dict[str, Any]:
    if not examples:
        return {"examples": 0}
    conversations = [one for example in examples for one in _conversations(example)]
    texts = Counter(
        "\x1e".join(message.content for one in _conversations(example) for message in one.messages)
        for example in examples
    )
    return {
        "examples": len(examples),
        "parts": dict(Counter(part for example in examples for part in example.parts)),
        "roles": dict(Counter(message.role for one in conversations for message in one.messages)),
        "messages": _spread([len(one.messages) for one in conversations]),
        "characters": _spread([sum(len(m.content) for m in one.messages) for one in conversations]),
        "duplicates": sum(count - 1 for count in texts.values()),
        "first": {
            part: [{"role": m.role, "content": _shown(m)} for m in one.messages]
            for part, one in examples[0].parts.items()
            if isinstance(one, Conversation)
        },
    }


def _shown(message: Message) -> str:
    """What is said, and the tools that are called."""
    calls = [f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})" for call in message.calls]
    return "\n".join([message.content, *calls] if message.content else calls)


def _conversations(example: Example) -> Iterator[Conversation]:
    for part in example.parts.values():
        yield from part if isinstance(part, tuple) else (part,)


def _spread(values: Sequence[int]) -> dict[str, int]:
    return {"least": min(values), "median": round(statistics.median(values)), "most": max(values)}
