"""Tasks whose options name files: these are found before anything is made, and hashed by what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith.data import read
from turnsmith.errors import UsageError
from turnsmith.recipes.schema import Component, Recipe, flat
from turnsmith.registry import Registry
from turnsmith.types import Json

if TYPE_CHECKING:
    from turnsmith.evaluation.suite import Task


def located(component: Component, registry: Registry, near: Path | None) -> dict[str, Path]:
    """Where the files of a task are, by the options that name them; an option that is None names none.

    near: the recipe's folder, where they may lie too. Raises UsageError naming the option whose file is
    nowhere.
    """
    options = registry.options("task", component.name, component.options)
    found: dict[str, Path] = {}
    for option in registry.entry("task", component.name).names("files"):
        try:
            if options[option] is not None:
                found[option] = read.locate(str(options[option]), near)
        except UsageError as error:
            raise UsageError(f"task {component.name!r}, option {option!r}: {error}") from None
    return found


def hashes(component: Component, registry: Registry, near: Path | None) -> dict[str, Json]:
    """What stands for the files in the hash of what is measured on them: what they hold, not where they
    are."""
    return {name: read.fingerprint(path) for name, path in located(component, registry, near).items()}


def made(
    component: Component, registry: Registry, near: Path | None, options: Mapping[str, Any] | None = None
) -> Task:
    """The task with its options, files by their whole paths. options: all of them, where some are no longer
    what the recipe says."""
    if options is None:
        options = registry.options("task", component.name, component.options)
    paths = {name: str(path.absolute()) for name, path in located(component, registry, near).items()}
    task: Task = registry.function("task", component.name)(**{**options, **paths})
    return task


def check(recipe: Recipe, registry: Registry, near: Path | None, *, rows: bool = False) -> None:
    """Raise UsageError where a file that some step will measure on is nowhere. rows: also make each such
    task, which reads its files, so that a bad row is known of before anything is trained."""
    for step in flat(recipe.steps):
        for component in step.evaluate.suite if step.evaluate is not None else ():
            if located(component, registry, near) and rows:
                made(component, registry, near)
