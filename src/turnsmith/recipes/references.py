"""What a user names: a recipe by its file, its name or its content; data by a path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnsmith.recipes import schema


def content(
    recipe: str | Path | Mapping[str, Any], name: str, settings: Mapping[str, Any] | None
) -> tuple[dict[str, Any], str, Path | None]:
    """A recipe's content with the settings in it, its name, and the folder that it lies in.

    recipe: a file, the name of one that comes with Turnsmith, or content, which is then called `name` and
    is left as it was given. settings: changes by path.
    """
    near = None
    if not isinstance(recipe, Mapping):
        file = schema.find(str(recipe))
        recipe, name, near = schema.parse(file.read_text("utf-8"), file.name), file.stem, file.parent
    plain = schema.unshared(dict(recipe))
    for path, value in (settings or {}).items():
        schema.assign(plain, path, value)
    return plain, name, near


def absolute(data: str | Path) -> str:
    """A reference to data that means the same wherever it is read: the whole path of a file."""
    path = Path(data).expanduser()
    return str(path.resolve() if path.exists() else data)


def model(reference: str | Path) -> str:
    """A reference to a model that is never taken for a name of the recipe: a folder of this name is a
    path."""
    said = str(reference)
    return f"./{said}" if "/" not in said and Path(said).is_dir() else said
