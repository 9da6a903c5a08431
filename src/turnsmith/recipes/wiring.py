"""What the options of a component name beside numbers and texts: models, agents, scorers and data.

An option of `chats` is a model's name, or an agent as `{name: options}`; one of `scorers` is a scorer, by
name or with options; one of `models` is a model's name; one of `beside` is a name of data. Agents and scorers
may name others in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from turnsmith.errors import UsageError
from turnsmith.recipes.component import Component, component_of
from turnsmith.registry import Kind, Registry, bound
from turnsmith.types import Chat, Json, is_object

if TYPE_CHECKING:
    from turnsmith.recipes.run import Runner


def inner(kind: Kind, component: Component, registry: Registry) -> Iterator[tuple[str, Kind, Component]]:
    """The agents and scorers that a component's options hold: option, kind, and which.

    Raises UsageError where an option holds neither a name nor `{name: options}`.
    """
    entry = registry.entry(kind, component.name)
    options = registry.options(kind, component.name, component.options)
    for name in entry.names("chats"):
        if is_object(options[name]):
            yield name, "agent", _component(kind, component, name, options[name])
    for name in entry.names("scorers"):
        if options[name] is not None:
            yield name, "scorer", _component(kind, component, name, options[name])


def models(kind: Kind, component: Component, registry: Registry) -> list[str]:
    """The models that a component's options name, and those that its agents and scorers do."""
    return [*_named("chats", kind, component, registry), *loaded(kind, component, registry)]


def loaded(kind: Kind, component: Component, registry: Registry) -> list[str]:
    """Those of them that the component loads itself; the others answer as chats."""
    return _named("models", kind, component, registry)


def data(kind: Kind, component: Component, registry: Registry) -> list[str]:
    """The data that a component's options name beside those it is for, and those that its agents do."""
    return _named("beside", kind, component, registry)


def _named(trait: str, kind: Kind, component: Component, registry: Registry) -> list[str]:
    options = registry.options(kind, component.name, component.options)
    named = [options[name] for name in registry.entry(kind, component.name).names(trait)]
    found = [str(name) for name in named if name is not None and not is_object(name)]
    for _, its_kind, one in inner(kind, component, registry):
        found += _named(trait, its_kind, one, registry)
    return found


def described(kind: Kind, component: Component, registry: Registry) -> dict[str, Any]:
    """What stands for a component in a hash: name, version and all options, those of its parts too."""
    entry = registry.entry(kind, component.name)
    options: dict[str, Any] = registry.options(kind, component.name, component.options)
    for name, its_kind, one in inner(kind, component, registry):
        options[name] = described(its_kind, one, registry)
    return {"name": component.name, "version": entry.version, "options": options}


def filled(
    kind: Kind, component: Component, runner: Runner, chat: Callable[[str], Chat] | None = None
) -> dict[str, Any]:
    """The component's options with what they name in its place: chats, scorers as functions, references of
    models and, of agents, examples; a task asks its bench for these. chat: what answers for a model's name;
    None of kinds that have no chats."""
    entry = runner.registry.entry(kind, component.name)
    options: dict[str, Any] = runner.registry.options(kind, component.name, component.options)
    for name in entry.names("models"):
        if options[name] is not None:
            options[name] = runner.model(str(options[name])).reference
    for name in entry.names("beside") if kind == "agent" else ():
        options[name] = runner.examples(str(options[name]))
    for name in entry.names("chats"):
        if options[name] is not None and not is_object(options[name]):
            assert chat is not None
            options[name] = chat(str(options[name]))
    for name, its_kind, one in inner(kind, component, runner.registry):
        options[name] = _made(its_kind, one, runner, chat)
    return options


def _made(
    kind: Kind, component: Component, runner: Runner, chat: Callable[[str], Chat] | None
) -> Callable[..., Any]:
    function = runner.registry.function(kind, component.name)
    options = filled(kind, component, runner, chat)
    return bound(function, options)


def _component(kind: Kind, whole: Component, option: str, value: Json) -> Component:
    try:
        return component_of(value)
    except ValueError as error:
        raise UsageError(f"{kind} {whole.name!r}, option {option!r}: {error}, not {value!r}") from None


def adds(trainable: str, registry: Registry) -> bool:
    """Whether the trainable puts parts into the model, and does not only choose among its weights."""
    return hasattr(registry.function("trainable", trainable), "attach")
