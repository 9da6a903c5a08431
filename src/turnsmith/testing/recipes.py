"""What every recipe for others to run keeps. A check takes its file and the registry of its components."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from turnsmith.recipes import schema
from turnsmith.recipes.script import script
from turnsmith.registry import Registry


def it_can_be_carried_out(file: Path, registry: Registry) -> None:
    """Every arm is a recipe: its keys, names, components and options are known."""
    assert arms(file, registry)


def its_tiny_form_is_less(file: Path, registry: Registry) -> None:
    """There is one, it is a recipe, and it has fewer steps to train."""
    assert schema.parse(file.read_text("utf-8"), file.name).get("tiny")
    whole, tiny = (steps_trained(file, registry, tiny) for tiny in (False, True))
    assert 0 < tiny < whole or tiny == whole == 0


def it_claims_something_that_its_tasks_measure(file: Path, registry: Registry) -> None:
    """A claim names a figure of a task: a misspelt one would show after the training."""
    for arm in arms(file, registry):
        assert arm.recipe.claim
        for statement in arm.recipe.claim:
            task: Any = registry.function("task", statement.task)
            assert statement.quantity in [metric.name for metric in task.metrics]


def it_can_be_printed_as_python(file: Path, registry: Registry) -> None:
    """For those who go on from it."""
    text = script(schema.parse(file.read_text("utf-8"), file.name), file.stem, registry)
    compile(text, file.stem, "exec")


RecipeCheck = Callable[[Path, Registry], None]
RECIPE: tuple[RecipeCheck, ...] = (
    it_can_be_carried_out,
    its_tiny_form_is_less,
    it_claims_something_that_its_tasks_measure,
    it_can_be_printed_as_python,
)


def arms(file: Path, registry: Registry, *, tiny: bool = False) -> list[schema.Arm]:
    """The members of its grid."""
    return schema.arms(schema.parse(file.read_text("utf-8"), file.name), file.stem, registry, tiny=tiny)


def steps_trained(file: Path, registry: Registry, tiny: bool) -> float:
    """Optimiser steps, or epochs where it says so, of all its train steps."""
    fits = [
        step.train.fit
        for arm in arms(file, registry, tiny=tiny)
        for step in schema.flat(arm.recipe.steps)
        if step.train is not None
    ]
    return sum(fit.steps or fit.epochs or 0 for fit in fits)
