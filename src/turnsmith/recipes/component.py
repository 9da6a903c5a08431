"""Components and other things as a recipe names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from turnsmith.types import is_object


@dataclass(frozen=True, slots=True)
class Component:
    """A component as a recipe names it: a name, or `{name: options}`."""

    name: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        options = ", ".join(f"{name} {value}" for name, value in self.options.items())
        return f"{self.name} ({options})" if options else self.name


def component_of(value: Any) -> Component:
    """A component from its name, or from `{name: options}`. Raises ValueError for anything else."""
    if isinstance(value, Component):
        return value
    if isinstance(value, str):
        return Component(value, {})
    if is_object(value) and len(value) == 1:
        ((name, options),) = value.items()
        if options is None or is_object(options):
            return Component(str(name), options or {})
    raise ValueError("expected the name of a component, or {name: {option: value}}")


Named = Annotated[Component, BeforeValidator(component_of)]


def bare(name: str) -> str:
    """A name without the version that `name@N` asks for."""
    return name.partition("@")[0]
