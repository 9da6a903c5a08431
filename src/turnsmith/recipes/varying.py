"""What could come out otherwise, were a run carried out again with the same recipe, seed and machine.

All else is the same to the last bit: data, weights, metrics and figures. Seconds and memory are no outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith import wheels
from turnsmith.models.answering import is_llamacpp
from turnsmith.models.endpoint import endpoint, is_endpoint
from turnsmith.recipes import wiring
from turnsmith.recipes.component import Component, bare
from turnsmith.recipes.schema import Step, flat

if TYPE_CHECKING:
    from turnsmith.recipes.run import Runner
    from turnsmith.registry import Kind

Row = Mapping[str, Any]
NEAR = 1.25  # times of one another at which a choice by speed may fall the other way on another day


def varying(runner: Runner) -> list[str]:
    """A line for each thing that may differ, with where it comes in; none where all is deterministic."""
    return [*_models(runner), *_arithmetic(runner.steps), *_clocks(runner.steps)]


def by_the_clock(unit: str) -> list[str]:
    """The same of a comparison, by the unit of its budget."""
    if unit != "seconds":
        return []
    return [
        "how many steps a method takes follows from how fast they are: with a budget in tokens it does not"
    ]


# ------------------------------------------------------------------------------------------------- models


def _models(runner: Runner) -> Iterator[str]:
    """Models that others hold: servers, and the hub."""
    places: dict[str, list[str]] = {}
    for place, name in _named(runner):
        made = runner.models.get(bare(name))
        reference = made[-1].reference if made else name
        places.setdefault(reference, [])
        if place not in places[reference]:
            places[reference].append(place)
    for reference, where in places.items():
        said = f"({', '.join(where)})"
        if is_endpoint(reference):
            yield (
                f"replies of {endpoint(reference).name} {said}: a server may answer otherwise another time; "
                "what it has answered is recorded here, and given again"
            )
        elif is_llamacpp(reference):
            yield f"replies of {reference} {said}: llama.cpp's last bits depend on its threads and on the GPU"
        elif _is_of_the_hub(reference):
            yield f"{reference} {said} comes from the hub, where it may be replaced: give a copy's directory"


def _named(runner: Runner) -> Iterator[tuple[str, str]]:
    """Where models come in, and which, by the names that the recipe has for them."""
    yield "base", "base"
    for step in flat(runner.recipe.steps):
        place, names, components = _of_step(step)
        yield from ((place, name) for name in names)
        for kind, component in components:
            yield from ((place, name) for name in wiring.models(kind, component, runner.registry))


def _of_step(step: Step) -> tuple[str, list[str], list[tuple[Kind, Component]]]:
    """What a step is called, the models that it names, and components that may name more."""
    if step.data is not None:
        return f"data {'+'.join(step.data.names)}", [], [("stage", one) for one in step.data.stages]
    if step.train is not None:
        train = step.train
        stages: list[tuple[Kind, Component]] = [
            ("stage", one) for one in (train.collect.stages if train.collect else ())
        ]
        tasks: list[tuple[Kind, Component]] = [
            ("task", one) for one in (train.watch.suite if train.watch else ())
        ]
        return f"train {train.name}", [train.start, *train.others.values()], [*stages, *tasks]
    if step.evaluate is not None:
        models = [step.evaluate.model, *([step.evaluate.against] if step.evaluate.against else [])]
        return f"measure {step.evaluate.model}", models, [("task", one) for one in step.evaluate.suite]
    if step.merge is not None:
        return f"merge {step.merge.name}", [step.merge.base, *step.merge.models], []
    assert step.combine is not None
    return f"combine {step.combine.name}", list(step.combine.members.values()), []


def _is_of_the_hub(reference: str) -> bool:
    here = reference.startswith("pypi:") or wheels.shipped(reference) is not None
    return not here and not Path(reference).expanduser().exists()


# ------------------------------------------------------------------------------------- arithmetic, clocks


def _arithmetic(steps: Sequence[Row]) -> Iterator[str]:
    """What the last bits of sums, or more of them, depend on."""
    ran = [(place, on) for place, on in _computed(steps) if on]
    threads: dict[int, list[str]] = {}
    for place, on in ran:
        if on["device"] == "cpu":
            threads.setdefault(on["threads"], []).append(place)
    if devices := sorted({on["device"] for _, on in ran} - {"cpu"}):
        where = _once(place for place, on in ran if on["device"] != "cpu")
        yield f"computed on {', '.join(devices)} ({where}): the order of sums, so last bits, may differ"
    if several := _once(place for place, on in ran if on["processes"] > 1):
        yield f"several processes trained together ({several}): the order of their sums is not fixed"
    if len(threads) > 1:
        said = "; ".join(f"{count} for {_once(where)}" for count, where in sorted(threads.items()))
        yield f"computed on other numbers of threads ({said}): last bits depend on it: set OMP_NUM_THREADS"
    if close := _once(place for place, on in ran if _near(on["dtype_seconds"])):
        yield (
            f"float32 and bfloat16 were nearly as fast ({close}), and the faster one was taken, which may be "
            "the other on another day: training takes what fit.dtype names"
        )
    for step in steps:
        if step["verb"] == "train" and (said := step.get("room", {}).get("said")):
            yield f"train {step['name']}: {said}: by the memory that was free, and there may be more or less"


def _computed(steps: Sequence[Row]) -> Iterator[tuple[str, Row | None]]:
    """Where something was computed, and on what, where that was noted."""
    for step in steps:
        if step["verb"] == "evaluate":
            for task in step["tasks"]:
                yield from ((f"measure {task['task']}", on) for on in task.get("computed_on", {}).values())
        else:
            yield f"{step['verb']} {step['name']}", step.get("computed_on")


def _near(seconds: Mapping[str, float]) -> bool:
    """Whether arithmetic was chosen by times that are near one another."""
    return bool(seconds) and max(seconds.values()) < NEAR * min(seconds.values())


def _clocks(steps: Sequence[Row]) -> Iterator[str]:
    """Tasks that say of themselves that what they measure is not the same each time."""
    told = [
        f"measure {task['task']}: {task['varies']}"
        for step in steps
        for task in step.get("tasks", ())
        if task.get("varies")
    ]
    yield from dict.fromkeys(told)


def _once(places: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(places))
