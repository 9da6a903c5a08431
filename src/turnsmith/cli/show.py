"""`turnsmith show`: one component or recipe, in full."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from turnsmith.cli.common import AsJson, Use, print_json
from turnsmith.errors import UsageError
from turnsmith.recipes import components
from turnsmith.registry import Entry, suggest


def command(
    name: Annotated[str, typer.Argument(help="A component or recipe, e.g. dpo, or objective/dpo.")],
    use: Use = None,
    as_json: AsJson = False,
) -> None:
    """Show a component's options, text and source, or a recipe's text."""
    from turnsmith.recipes import FOLDER

    kind, _, bare = name.rpartition("/")
    entries = components(use).entries()
    found = [entry for entry in entries if entry.name == bare and kind in ("", entry.kind)]
    recipe = FOLDER / f"{bare}.yaml"
    if recipe.is_file() and kind in ("", "recipe"):
        text = recipe.read_text("utf-8")
        print_json({"kind": "recipe", "name": bare, "text": text}) if as_json else print(text, end="")
    elif not found:
        raise UsageError(f"nothing is called {name!r}{suggest(bare, [entry.name for entry in entries])}")
    elif as_json:
        print_json([asdict(entry) for entry in found])
    else:
        print("\n\n".join(_page(entry) for entry in found))


def _page(entry: Entry) -> str:
    lines = [f"{entry.kind} {entry.name}   ({entry.module}:{entry.line})", "", entry.text, ""]
    lines += [f"source: {entry.source}", ""] if entry.source else []
    if entry.options:
        lines.append("options")
        width = max(len(option.name) for option in entry.options)
        lines += [f"  {o.name:<{width}}  {o.type} = {o.default}" for o in entry.options]
    else:
        lines.append("no options")
    used = _recipes_with(entry)
    lines += ["", f"used by the recipes: {', '.join(used)}"] if used else []
    return "\n".join(lines)


def _recipes_with(entry: Entry) -> list[str]:
    import re

    from turnsmith.recipes import FOLDER

    word = re.compile(rf"\b{re.escape(entry.name)}\b")
    return [file.stem for file in sorted(FOLDER.glob("*.yaml")) if word.search(file.read_text("utf-8"))]
