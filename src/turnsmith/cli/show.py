"""`turnsmith show`: one component or recipe, in full."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from turnsmith.cli.common import AsJson, Use, print_json
from turnsmith.errors import UsageError
from turnsmith.recipes import FOLDER, components
from turnsmith.registry import Entry, Registry, suggest


def command(
    name: Annotated[
        str, typer.Argument(help="A component or recipe, e.g. dpo, or objective/dpo, or a recipe file.")
    ],
    python: Annotated[bool, typer.Option("--python", help="A recipe as Python instead of YAML.")] = False,
    use: Use = None,
    as_json: AsJson = False,
) -> None:
    """Show a component's options, text and source, or a recipe's text."""
    kind, _, bare = name.rpartition("/")
    registry = components(use)
    entries = registry.entries()
    found = [entry for entry in entries if entry.name == bare and kind in ("", entry.kind)]
    recipe = _recipe(name)
    if recipe is not None:
        text = _script(recipe, registry) if python else recipe.read_text("utf-8")
        print_json({"kind": "recipe", "name": recipe.stem, "text": text}) if as_json else print(text, end="")
    elif found and python:
        raise UsageError(f"--python: {name!r} is no recipe, and only recipes are printed as Python")
    elif not found:
        raise UsageError(f"nothing is called {name!r}{suggest(bare, [entry.name for entry in entries])}")
    elif as_json:
        print_json([asdict(entry) for entry in found])
    else:
        print("\n\n".join(_page(entry) for entry in found))


def _recipe(name: str) -> Path | None:
    """The file of the recipe that is meant, if one is."""
    if name.endswith((".yaml", ".yml")):
        from turnsmith.recipes import schema

        return schema.find(name)
    file = FOLDER / f"{name.removeprefix('recipe/')}.yaml"
    return file if file.is_file() else None


def _script(recipe: Path, registry: Registry) -> str:
    from turnsmith.recipes import schema
    from turnsmith.recipes.script import script

    plain = schema.parse(recipe.read_text("utf-8"), recipe.name)
    here = recipe.parent.resolve()
    return script(plain, recipe.stem, registry, near=None if here in (FOLDER, Path.cwd()) else recipe.parent)


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

    word = re.compile(rf"\b{re.escape(entry.name)}\b")
    return [file.stem for file in sorted(FOLDER.glob("*.yaml")) if word.search(file.read_text("utf-8"))]
