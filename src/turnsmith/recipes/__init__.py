"""Recipes: what they may say, and how they are carried out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from turnsmith import wheels
from turnsmith.registry import Registry

FOLDER = Path(__file__).parent


def components(use: Sequence[Path | str] | None = ()) -> Registry:
    """All components, those of a user's own files included."""
    found = Registry(wheels.home() / "components.json")
    for file in use or ():
        found.use(Path(file))
    return found
