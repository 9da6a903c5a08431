"""`turnsmith methods`: all components and recipes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from turnsmith.cli.common import AsJson, Use, print_json
from turnsmith.recipes import components


def command(
    word: Annotated[str, typer.Argument(help="Only what has this word in its name, summary or source.")] = "",
    use: Use = None,
    as_json: AsJson = False,
) -> None:
    """List all components and recipes, with their source papers."""
    rows: list[dict[str, Any]] = [
        {"kind": e.kind, "name": e.name, "summary": e.summary, "source": e.source}
        for e in components(use).entries()
    ]
    rows += _recipes()
    found = [row for row in rows if word.lower() in " ".join(map(str, row.values())).lower()]
    if as_json:
        print_json(found)
        return
    kind = ""
    for row in found:
        if row["kind"] != kind:
            kind = row["kind"]
            print(f"{kind}s" if not kind.endswith("s") else kind)
        source = f"  ({row['source']})" if row["source"] else ""
        print(f"  {row['name']:<16}{row['summary']}{source}")
    if not found:
        print(f"nothing has {word!r} in it")


def _recipes() -> list[dict[str, Any]]:
    """Recipes by name; title and source are read from the text, which is quicker than parsing it."""
    from turnsmith.recipes import FOLDER

    rows: list[dict[str, Any]] = []
    for file in sorted(FOLDER.glob("*.yaml")):
        lines = dict(
            line.split(": ", 1) for line in file.read_text("utf-8").splitlines() if ": " in line[:12]
        )
        rows.append(
            {
                "kind": "recipe",
                "name": file.stem,
                "summary": lines.get("title", ""),
                "source": lines.get("source", ""),
            }
        )
    return rows
