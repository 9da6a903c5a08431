"""Which models can do what a step asks of them: one behind an endpoint answers, and has no weights here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from turnsmith.errors import UsageError
from turnsmith.models.endpoint import is_endpoint
from turnsmith.registry import Registry

if TYPE_CHECKING:
    from turnsmith.recipes.schema import Evaluate, Step, Train


def check(step: Step, base: str, registry: Registry, where: str) -> None:
    """Raise UsageError where the step needs weights or likelihoods of a model that is an endpoint.

    base: what the recipe's `base` stands for.
    """
    if step.train is not None:
        _with_weights(f"train {step.train.name}: `start`", (step.train.start,), base, where)
        _with_weights(f"train {step.train.name}: `base`", ("base",), base, where)  # drift is measured from it
    elif step.merge is not None:
        _with_weights(f"merge {step.merge.name}", (*step.merge.models, step.merge.base), base, where)
    elif step.evaluate is not None:
        _measured(step.evaluate, base, registry, where)


def check_watched(step: Train, registry: Registry, where: str) -> None:
    """Raise UsageError where a task that is to be watched asks for a second model."""
    assert step.watch is not None
    for component in step.watch.suite:
        if needs := registry.entry("task", component.name).names("needs"):
            raise UsageError(
                f"{where}: {component.name} cannot be watched: it asks for {', '.join(needs)} of the start "
                "model, and while a model is trained no other one is loaded. Measure it in an evaluate step"
            )


def replies_only(suite: Sequence[str], registry: Registry) -> list[str]:
    """Those tasks of the suite that need nothing but replies."""
    return [name for name in suite if registry.entry("task", name).traits.get("asks") == "replies"]


def _with_weights(what: str, names: Sequence[str], base: str, where: str) -> None:
    for name in names:
        model = base if name == "base" else name
        if is_endpoint(model):
            raise UsageError(
                f"{where}: {what} is the endpoint {model}, and this needs weights: name a directory, a "
                "shipped name or a hub id"
            )


def _measured(step: Evaluate, base: str, registry: Registry, where: str) -> None:
    """Refuse tasks that need likelihoods of an endpoint, or the start's items where the start is one."""
    tasks = {component.name: registry.entry("task", component.name) for component in step.suite}
    scoring = [name for name, entry in tasks.items() if entry.traits.get("asks") != "replies"]
    from_start = [name for name, entry in tasks.items() if entry.names("needs")]
    sides = (step.model,) if step.against is None else (step.model, step.against)
    for model in (base if name == "base" else name for name in sides):
        if is_endpoint(model) and scoring:
            raise _refused(where, model, scoring, registry)
    if is_endpoint(base) and from_start:
        raise _refused(where, base, from_start, registry)


def _refused(where: str, model: str, names: Sequence[str], registry: Registry) -> UsageError:
    able = replies_only([entry.name for entry in registry.entries("task")], registry)
    return UsageError(
        f"{where}: {', '.join(names)} cannot be measured on {model}: an endpoint gives replies and no "
        f"likelihoods. Tasks that need replies only are {', '.join(able)}"
    )
