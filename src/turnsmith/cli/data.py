"""`turnsmith data`: what is in a file."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import Annotated, Any

import typer

from turnsmith.cli.common import AsJson, Use, print_json
from turnsmith.recipes import components
from turnsmith.types import Conversation, Example, is_object


def command(
    file: Annotated[str, typer.Argument(help="A data file, or shipped data such as chitchat.")],
    format: Annotated[
        str, typer.Option(help="Say which format it has instead of letting it be guessed.")
    ] = "auto",
    use: Use = None,
    as_json: AsJson = False,
) -> None:
    """Say what a data file holds: format, counts, roles, lengths, duplicates, and one example."""
    from turnsmith.data import formats, read

    known = components(use)
    path = read.locate(file)
    rows = list(read.rows(path))
    guessed = format == "auto"
    name = formats.guess([row for _, row in rows[:1000]], known.entries("format")) if guessed else format
    examples, skipped = formats.examples(rows, name, known, str(path))
    found: dict[str, Any] = {
        "file": str(path),
        "format": name,
        "guessed": guessed,
        "rows": len(rows),
        "skipped": dict(skipped),
    }
    found |= _describe(examples)
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        if key == "first":
            continue
        text = ", ".join(f"{k} {v:,}" for k, v in value.items()) if is_object(value) else value
        print(f"{key:<12}{text}")
    for part, messages in found.get("first", {}).items():
        print(f"\nfirst example, {part}:")
        for message in messages[:6]:
            print(f"  {message['role']}: {message['content'][:200]}")


def _describe(examples: list[Example]) -> dict[str, Any]:
    if not examples:
        return {"examples": 0}
    roles: Counter[str] = Counter()
    turns: list[int] = []
    letters: list[int] = []
    texts: Counter[str] = Counter()
    for example in examples:
        conversations = list(_conversations(example))
        texts["\x1e".join(m.content for one in conversations for m in one.messages)] += 1
        for one in conversations:
            roles.update(message.role for message in one.messages)
            turns.append(len(one.messages))
            letters.append(sum(len(message.content) for message in one.messages))
    return {
        "examples": len(examples),
        "parts": dict(Counter(part for example in examples for part in example.parts)),
        "roles": dict(roles),
        "messages": _spread(turns),
        "characters": _spread(letters),
        "duplicates": sum(count - 1 for count in texts.values()),
        "first": {
            part: [{"role": m.role, "content": m.content} for m in one.messages]
            for part, one in examples[0].parts.items()
            if isinstance(one, Conversation)
        },
    }


def _conversations(example: Example) -> Any:
    for part in example.parts.values():
        yield from part if isinstance(part, tuple) else (part,)


def _spread(values: list[int]) -> dict[str, int]:
    return {"least": min(values), "median": round(statistics.median(values)), "most": max(values)}
