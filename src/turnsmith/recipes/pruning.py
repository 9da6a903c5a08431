"""The part of a recipe that its claim rests on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from turnsmith.recipes import wiring
from turnsmith.recipes.component import bare
from turnsmith.recipes.schema import Component, Evaluate, Recipe, Step, flat
from turnsmith.registry import Registry


def claimed(recipe: Recipe, registry: Registry) -> Recipe:
    """The recipe without the measurements that its claim does not speak of, and without the models and data
    that nothing is then measured on. Of a name that several steps make, all steps stay."""
    kept = _measuring(recipe, registry)
    names = _needed([*flat(recipe.steps)], kept.values(), registry)

    def pruned(steps: Sequence[Step]) -> tuple[Step, ...]:
        found: list[Step] = []
        for step in steps:
            if step.repeat is not None:
                inner = step.repeat.model_copy(update={"steps": pruned(step.repeat.steps)})
                found += [step.model_copy(update={"repeat": inner})] if inner.steps else []
            elif step.evaluate is not None:
                found += [Step(evaluate=kept[id(step)])] if id(step) in kept else []
            else:
                found += [_unwatched(step)] if names.intersection(_made(step)) else []
        return tuple(found)

    return recipe.model_copy(update={"steps": pruned(recipe.steps)})


def _unwatched(step: Step) -> Step:
    """The step without what is measured while it trains, which changes nothing of the model."""
    if step.train is None or step.train.watch is None:
        return step
    return step.model_copy(update={"train": step.train.model_copy(update={"watch": None})})


def _measuring(recipe: Recipe, registry: Registry) -> dict[int, Evaluate]:
    """By the identity of its step, what each evaluate step is still to measure; the newest measurement
    counts."""
    open_ = {(one.task, one.on, model) for one in recipe.claim for model in one.models}
    found: dict[int, Evaluate] = {}
    for step in reversed([*flat(recipe.steps)]):
        if step.evaluate is None:
            continue
        models = (step.evaluate.model, step.evaluate.against)
        here = {
            wanted
            for wanted in open_
            if wanted[2] in models and any(_fits(task, wanted[:2]) for task in step.evaluate.suite)
        }
        tasks = [task for task in step.evaluate.suite if any(_fits(task, wanted[:2]) for wanted in here)]
        needs = {need for task in tasks for need in registry.entry("task", task.name).names("needs")}
        suite = tuple(task for task in step.evaluate.suite if task in tasks or task.name in needs)
        if here:
            found[id(step)] = step.evaluate.model_copy(update={"suite": suite})
        open_ -= here
    return found


def _fits(task: Component, wanted: tuple[str, str | None]) -> bool:
    return task.name == wanted[0] and wanted[1] in (None, task.options.get("on"))


def _needed(steps: Sequence[Step], kept: Iterable[Evaluate], registry: Registry) -> set[str]:
    """The names of models and data that the kept measurements rest on."""
    found: set[str] = set()
    new = {bare(name) for one in kept for name in _spoken_of(one, registry)}
    while new - found:
        found |= new
        new = {
            bare(name) for step in steps if found.intersection(_made(step)) for name in _taken(step, registry)
        }
    return found


def _made(step: Step) -> tuple[str, ...]:
    """What a step of data, training or merging makes."""
    if step.data is not None:
        return step.data.names
    made = step.train or step.merge or step.combine
    return (made.name,) if made is not None else ()


def _taken(step: Step, registry: Registry) -> list[str]:
    """What it takes."""
    if step.train is not None:
        return [
            step.train.data,
            step.train.start,
            *step.train.others.values(),
            *step.train.beside.values(),
            *([step.train.validate_on] if step.train.validate_on else []),
            *wiring.models("trainable", step.train.trainable, registry),
            *_staged(step.train.collect.stages if step.train.collect else (), registry),
        ]
    if step.merge is not None:
        return [*step.merge.models, step.merge.base]
    if step.combine is not None:
        return list(step.combine.members.values())
    assert step.data is not None
    return [*_staged(step.data.stages, registry), *([step.data.given] if step.data.given else [])]


def _staged(stages: Sequence[Component], registry: Registry) -> list[str]:
    """The models and data that stages name."""
    return [
        name
        for stage in stages
        for of in (wiring.models, wiring.data)
        for name in of("stage", stage, registry)
    ]


def _spoken_of(step: Evaluate, registry: Registry) -> list[str]:
    """What a measurement takes: its models, data, and the models that its tasks name."""
    data = [str(task.options["on"]) for task in step.suite if "on" in task.options]
    data += [name for task in step.suite for name in wiring.data("task", task, registry)]
    models = [name for task in step.suite for name in wiring.models("task", task, registry)]
    return [step.model, *([step.against] if step.against else []), *data, *models]
