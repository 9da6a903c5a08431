"""Which models can do what a step asks of them: some only answer, and not all in every way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from turnsmith.errors import UsageError
from turnsmith.models.answering import called, only_answers
from turnsmith.models.endpoint import is_endpoint
from turnsmith.registry import Registry
from turnsmith.sample import able
from turnsmith.types import Json

if TYPE_CHECKING:
    from turnsmith.recipes.schema import Component, Evaluate, Step, Train


def check(step: Step, base: str, registry: Registry, where: str) -> None:
    """Raise UsageError where the step needs weights or likelihoods of a model that only answers, or asks
    it to answer in a way that it cannot.

    base: what the recipe's `base` stands for.
    """
    if step.data is not None:
        _answering(f"data {'+'.join(step.data.names)}", step.data.stages, base, registry, where)
    elif step.train is not None:
        _with_weights(f"train {step.train.name}: `start`", (step.train.start,), base, where)
        _with_weights(f"train {step.train.name}: `base`", ("base",), base, where)  # drift is measured from it
        if step.train.collect is not None:
            _answering(f"train {step.train.name}", step.train.collect.stages, base, registry, where)
    elif step.merge is not None:
        _with_weights(f"merge {step.merge.name}", (*step.merge.models, step.merge.base), base, where)
    elif step.combine is not None:
        _with_weights(f"combine {step.combine.name}", tuple(step.combine.members.values()), base, where)
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
        model = _meant(name, base)
        if only_answers(model):
            raise UsageError(
                f"{where}: {what} is {called(model)}, and this needs weights: name a directory, a shipped "
                "name or a hub id"
            )


def _answering(step: str, stages: Sequence[Component], base: str, registry: Registry, where: str) -> None:
    """Refuse stages of a step whose options ask a chat for what its model cannot do."""
    for component in stages:
        entry = registry.entry("stage", component.name)
        options = registry.options("stage", component.name, component.options)
        for chat in entry.names("chats"):
            what = f"{where}: {step}: {component.name}: `{chat}`"
            if isinstance(options[chat], str):  # an agent speaks for itself
                _able(what, options, _meant(str(options[chat]), base))


def _able(what: str, options: Mapping[str, Json], model: str) -> None:
    """Refuse options that are called as fields of a Sampling and ask for what the model's engine lacks."""
    able.refuse(options, able.kind(model), f"{what}, {model},")


def _meant(name: str, base: str) -> str:
    return base if name == "base" else name


def _measured(step: Evaluate, base: str, registry: Registry, where: str) -> None:
    """Refuse tasks that need likelihoods of a model that only answers, or the start's items where the start
    is one, and tasks that ask it for replies in a way that it cannot."""
    tasks = {component.name: registry.entry("task", component.name) for component in step.suite}
    scoring = [name for name, entry in tasks.items() if entry.traits.get("asks") != "replies"]
    from_start = [name for name, entry in tasks.items() if entry.names("needs")]
    sides = (step.model,) if step.against is None else (step.model, step.against)
    for model in (_meant(name, base) for name in sides):
        if only_answers(model) and scoring:
            raise _refused(where, model, scoring, registry)
        for component in step.suite:
            _able(
                f"{where}: {component.name}",
                registry.options("task", component.name, component.options),
                model,
            )
    if only_answers(base) and from_start:
        raise _refused(where, base, from_start, registry)


def _refused(where: str, model: str, names: Sequence[str], registry: Registry) -> UsageError:
    others = replies_only([entry.name for entry in registry.entries("task")], registry)
    kind = "an endpoint" if is_endpoint(model) else "llama.cpp"
    return UsageError(
        f"{where}: {', '.join(names)} cannot be measured on {model}: {kind} gives replies and no "
        f"likelihoods. Tasks that need replies only are {', '.join(others)}"
    )
