"""Whether the steps of a recipe fit together: names before their use, options, and what a claim speaks of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from turnsmith import wheels
from turnsmith.errors import UsageError
from turnsmith.models import needs
from turnsmith.models.answering import file_of, is_llamacpp
from turnsmith.models.endpoint import endpoint, is_endpoint
from turnsmith.recipes import asking, wiring
from turnsmith.recipes.component import bare
from turnsmith.registry import Kind, Registry, suggest
from turnsmith.types import Json

if TYPE_CHECKING:
    from turnsmith.recipes.schema import Combine, Component, Data, Recipe, Statement, Step, Train

T = TypeVar("T")


def check(recipe: Recipe, steps: Sequence[Step], registry: Registry, where: str) -> None:
    """Raise UsageError where something is named before it is made, or an option or claim makes no sense.

    steps: the recipe's, those of a `repeat` once.
    """
    names = {"base"}
    sets: set[str] = set()
    combined = {step.combine.name for step in steps if step.combine is not None}
    if isinstance(recipe.base, str):
        _model(recipe.base, {recipe.base}, where)
    else:
        _options(registry, "network", recipe.base, where)
    for step in steps:
        _weights(step, combined, where)
        _step(step, names, sets, registry, where)
        asking.check(step, str(recipe.base), registry, where)
    for statement in recipe.claim:
        _statement(statement, steps, where)


def _step(step: Step, names: set[str], sets: set[str], registry: Registry, where: str) -> None:
    if step.data is not None:
        _data(step.data, names, sets, registry, where)
        sets.update(step.data.names)
    elif step.train is not None:
        _known(step.train.data, sets, "data", where)
        _model(step.train.start, names, where)
        if step.train.validate_on is not None:
            _known(step.train.validate_on, sets, "data", where)
        if step.train.watch is not None:
            _suite(step.train.watch.suite, names, sets, registry, where)
            asking.check_watched(step.train, registry, where)
        _options(registry, "objective", step.train.objective, where)
        _others(step.train, names, registry, where)
        _beside(step.train, sets, registry, where)
        _options(registry, "trainable", step.train.trainable, where)
        _wired("trainable", step.train.trainable, names, sets, registry, where)
        _collect(step.train, names, sets, registry, where)
        if step.train.view is not None:
            _options(registry, "view", step.train.view, where)
        _reference(step.train, registry, where)
        names.add(step.train.name)
    elif step.merge is not None:
        for model in (*step.merge.models, step.merge.base):
            _model(model, names, where)
        _options(registry, "merge", step.merge.method, where)
        names.add(step.merge.name)
    elif step.combine is not None:
        _combine(step.combine, names, registry, where)
        names.add(step.combine.name)
    elif step.evaluate is not None:
        _model(step.evaluate.model, names, where)
        if step.evaluate.against is not None:
            _model(step.evaluate.against, names, where)
        _suite(step.evaluate.suite, names, sets, registry, where)


def _weights(step: Step, combined: set[str], where: str) -> None:
    """Steps that take weights are given none that are a combination of models, which has none."""
    taken: dict[str, Sequence[str]] = {}
    if step.train is not None:
        taken[f"train {step.train.name}"] = (step.train.start, *step.train.others.values())
    elif step.merge is not None:
        taken[f"merge {step.merge.name}"] = (*step.merge.models, step.merge.base)
    elif step.combine is not None:
        taken[f"combine {step.combine.name}"] = tuple(step.combine.members.values())
    for what, names in taken.items():
        for name in names:
            if bare(name) in combined:
                raise UsageError(
                    f"{where}: {what} takes weights, and {name!r} is a combination of models, which has none "
                    "of its own: it can be asked and measured. Take one of its members"
                )


def _wired(
    kind: Kind, component: Component, names: set[str], sets: set[str], registry: Registry, where: str
) -> None:
    """What its options name is there: models, agents, scorers and data, and what these name."""
    for data in _within(where, wiring.data, kind, component, registry):
        _known(data, sets, "data", where)
    agents = {entry.name for entry in registry.entries("agent")}
    for model in _within(where, wiring.models, kind, component, registry):
        if model in agents - names:
            raise UsageError(
                f"{where}: no model is called {model!r} before this step; the agent of that name is written "
                f"`{{{model}: {{}}}}`"
            )
        _model(model, names, where)


def _suite(
    suite: Sequence[Component], names: set[str], sets: set[str], registry: Registry, where: str
) -> None:
    for component in suite:
        options = _options(registry, "task", component, where)
        _wired("task", component, names, sets, registry, where)
        if registry.entry("task", component.name).traits.get("data"):
            _known(str(options.get("on")), sets, "data", where)


def _others(train: Train, names: set[str], registry: Registry, where: str) -> None:
    """The models beside the one that learns are those that the objective speaks of."""
    needed = needs.others(registry.entry("objective", train.objective.name).names("needs"))
    _spoken_of(train, "others", needed, ("another model", "no other model", "MODEL"), where)
    for model in train.others.values():
        _model(model, names, where)


def _beside(train: Train, sets: set[str], registry: Registry, where: str) -> None:
    """The data beside those that are learnt are those that the objective speaks of."""
    needed = registry.entry("objective", train.objective.name).names("beside")
    _spoken_of(train, "beside", needed, ("further data", "no further data", "DATA"), where)
    for data in train.beside.values():
        _known(data, sets, "data", where)


def _spoken_of(
    train: Train, key: str, needed: Sequence[str], words: tuple[str, str, str], where: str
) -> None:
    """What the step names under `key` is all that the objective calls by a name there, and nothing else.

    words: one of them, none of them, and what stands for one in an example."""
    objective, (one, none, example) = train.objective.name, words
    given: Mapping[str, str] = getattr(train, key)
    for name in needed:
        if name not in given:
            raise UsageError(
                f"{where}: train {train.name}: the objective {objective!r} needs {one}, which it "
                f"calls {name!r}: say which, as `{key}: {{{name}: {example}}}`"
            )
    for name in given:
        if name not in needed:
            speaks = f"only of {', '.join(map(repr, needed))}" if needed else f"of {none}"
            raise UsageError(
                f"{where}: train {train.name}: {key}: the objective {objective!r} speaks {speaks}, "
                f"not of {name!r}: leave it out"
            )


def _collect(train: Train, names: set[str], sets: set[str], registry: Registry, where: str) -> None:
    """What a step that collects says fits together, and one that has to says it."""
    entry, said = registry.entry("objective", train.objective.name), f"{where}: train {train.name}"
    credited = bool(entry.names("extras"))
    if train.collect is None:
        if credited:
            raise UsageError(
                f"{said}: the objective {train.objective.name!r} learns from what the model draws while it "
                "learns: say how, in `collect`"
            )
        return
    for component in train.collect.stages:
        _options(registry, "stage", component, where)
        _wired("stage", component, names | {train.name}, sets, registry, where)
        if train.name in _within(where, wiring.loaded, "stage", component, registry):
            raise UsageError(
                f"{said}: collect: {component.name} asks for the weights of {train.name!r}, which are being "
                "trained: name another model"
            )
    if train.fit.steps is None:
        raise UsageError(
            f"{said}: how many epochs there are of what is yet to be collected is not known: set fit.steps"
        )
    if credited and train.validate_on is not None:
        raise UsageError(
            f"{said}: {train.objective.name!r} cannot be computed of validation data, which the model has "
            "not drawn: watch a task in place of `validate_on`"
        )


def _combine(combine: Combine, names: set[str], registry: Registry, where: str) -> None:
    """A model for each member of the decoder, and for nobody else."""
    _options(registry, "decoder", combine.decoder, where)
    members = registry.entry("decoder", combine.decoder.name).names("members")
    what = f"{where}: combine {combine.name}: the decoder {combine.decoder.name!r}"
    for name in members:
        if name not in combine.members:
            raise UsageError(f"{what} needs a model that it calls {name!r}: `members: {{{name}: MODEL}}`")
    for name, model in combine.members.items():
        if name not in members:
            raise UsageError(f"{what} has no member {name!r}{suggest(name, list(members))}")
        _model(model, names, where)
    if combine.draft is not None and combine.draft not in members:
        raise UsageError(
            f"{what} has no member {combine.draft!r} to guess{suggest(combine.draft, list(members))}"
        )


def _reference(train: Train, registry: Registry, where: str) -> None:
    """Reference log-probs that are computed once are of the examples as they are, and of nothing else."""
    traits = registry.entry("objective", train.objective.name).traits
    if not traits.get("reference") or train.fit.reference != "precomputed":
        return
    reasons = {
        "what is yet to be collected has no reference before it": train.collect is not None,
        f"the view {train.view} changes what the model sees at every sight, so that its reference cannot be "
        "computed before it": train.view is not None,
        f"the objective {train.objective.name!r} asks for its reference before each step": bool(
            traits.get("looks")
        ),
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise UsageError(f"{where}: train {train.name}: {found[0]}: set fit.reference to live")


def _data(data: Data, names: set[str], sets: set[str], registry: Registry, where: str) -> None:
    if data.read is not None and data.given is not None:
        raise UsageError(f"{where}: data {'+'.join(data.names)} has both `read` and `from`: leave one out")
    if data.read is None and data.given is None and not data.stages:
        raise UsageError(
            f"{where}: data {'+'.join(data.names)} comes from nowhere: give `read`, `from`, or a stage that "
            "makes it"
        )
    if data.given is not None:
        _known(data.given, sets, "data", where)
    if data.format != "auto":
        _within(where, registry.entry, "format", data.format)
    for component in data.stages:
        _options(registry, "stage", component, where)
        _wired("stage", component, names, sets, registry, where)


def _options(registry: Registry, kind: Kind, component: Component, where: str) -> dict[str, Json]:
    return _within(where, registry.options, kind, component.name, component.options)


def _within(where: str, function: Callable[..., T], *arguments: object) -> T:
    """What the function gives; a UsageError of it says where."""
    try:
        return function(*arguments)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _known(name: str, among: set[str], what: str, where: str) -> None:
    if bare(name) not in among:
        there = ", ".join(sorted(among)) or "nothing yet"
        raise UsageError(f"{where}: no {what} is called {name!r} before this step; there is {there}")


def _model(name: str, names: set[str], where: str) -> None:
    """A model is a name of this recipe or a reference; a bare word that is neither is refused."""
    if is_endpoint(name):
        _within(where, endpoint(name).secret)
    if is_llamacpp(name):
        _within(where, file_of, name)
    if bare(name) in names or "/" in name or ":" in name:
        return
    if name not in wheels.names("model"):
        _known(name, names | set(wheels.names("model")), "model", where)


def _statement(statement: Statement, steps: Sequence[Step], where: str) -> None:
    """Raise UsageError where a model of the claim is not measured by its task."""
    on = f" on {statement.on!r}" if statement.on else ""
    if statement.of == statement.against:
        raise UsageError(f"{where}: the claim on {statement.task!r} compares {statement.of!r} with itself")
    for model in statement.models:
        measured = {
            str(task.options.get("on"))
            for step in steps
            if step.evaluate is not None and model in (step.evaluate.model, step.evaluate.against)
            for task in step.evaluate.suite
            if task.name == statement.task and statement.on in (None, task.options.get("on"))
        }
        if not measured:
            raise UsageError(
                f"{where}: the claim on {statement.task!r}{on} of {model!r} is measured by no evaluate step"
            )
        if len(measured) > 1:
            raise UsageError(
                f"{where}: the claim on {statement.task!r} of {model!r} is measured on "
                f"{', '.join(sorted(measured))}: say which with `on`"
            )
