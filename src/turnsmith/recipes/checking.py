"""What a recipe would do, found out before it does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from turnsmith.recipes import components, files, references, schema, wiring
from turnsmith.recipes.component import bare
from turnsmith.recipes.run import Runner
from turnsmith.recipes.summary import resolved


def check(
    recipe: str | Path | Mapping[str, Any],
    *,
    name: str = "recipe",
    settings: Mapping[str, Any] | None = None,
    use: Sequence[Path | str] = (),
    tiny: bool = False,
) -> dict[str, Any]:
    """The recipe with every default, and for each train step what it will see and take; nothing is trained.

    Arguments as of `run`; of a grid the first arm is looked at. Gives `resolved`, the recipe as YAML, and
    `train`, a list with name, examples, counts of what is cut or dropped, steps, tokens, supervised, minutes
    and memory_gib (estimates; memory is None where memory_said says why), memory_said (what a training would
    choose other than asked for want of memory, and which options save how much), and `shown`: three examples,
    each a list of tokens with their loss weights. A
    step on data that a model writes while the recipe runs, or that collects, has `name` and `waits`, the
    reason, alone.
    """
    plain, name, near = references.content(recipe, name, settings)
    known = components(use)
    arm = schema.arms(plain, name, known, tiny=tiny)[0]
    runner = Runner(arm, name, Path(), known, "", lambda text: None, near=near)
    files.check(arm.recipe, known, near, rows=True)
    return {"resolved": resolved(runner), "train": _trains(runner)}


def _trains(runner: Runner) -> list[dict[str, Any]]:
    """Make the data, which is quick, and look at every train step without training."""
    from turnsmith.recipes.forecast import forecast

    runner.models["base"] = [runner.base()]
    found: list[dict[str, Any]] = []
    waits: dict[str, str] = {}  # data that are not there before the recipe runs, with the reason
    for step in schema.flat(runner.recipe.steps):
        if step.data is not None:
            reason = _written(step.data, runner) or waits.get(bare(step.data.given or ""))
            if reason:
                waits |= dict.fromkeys(step.data.names, reason)
            else:
                runner.make_data(step.data)
        elif step.train is not None and (reason := waits.get(bare(step.train.data))):
            found.append({"name": step.train.name, "waits": reason})
        elif step.train is not None and step.train.collect is not None:
            found.append({"name": step.train.name, "waits": "it draws what it learns from while it learns"})
        elif step.train is not None:
            found.append(forecast(step.train, runner))
    return found


def _written(step: schema.Data, runner: Runner) -> str | None:
    """Which model writes in the data; None where none does."""
    for stage in step.stages:
        for model in wiring.models("stage", stage, runner.registry):
            made = "+".join(step.names)
            return f"{made} is written by {model!r} ({stage.name}) while the recipe runs"
    return None
