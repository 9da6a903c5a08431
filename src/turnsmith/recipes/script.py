"""A recipe as Python."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from turnsmith.errors import UsageError
from turnsmith.recipes import schema
from turnsmith.registry import Registry
from turnsmith.train.options import Fit
from turnsmith.types import is_list, is_object

WIDTH = 100  # columns
SAID = {"title", "source", "base", "seed", "forgetting", "steps", "claim", "each", "seeds"}
UNSAID = {"minutes", "card", "control", "replicates", "tiny"}  # they change nothing that `run` makes


def script(plain: Mapping[str, Any], name: str, registry: Registry, *, near: Path | None = None) -> str:
    """A script over `turnsmith.Steps` that makes the recipe's artefacts; one block for each arm of a grid.

    near: the folder of the recipe's file, where its data may lie. Raises UsageError where the recipe says
    what Python could not.
    """
    lines = ["import turnsmith"]
    for arm in schema.arms({**plain, "forgetting": False}, name, registry):
        for key in sorted(arm.recipe.model_fields_set - SAID - UNSAID):
            raise UsageError(f"{name} cannot be printed as Python: there is no way to say {key!r} there yet")
        head = {
            "base": _plain(arm.recipe.base),
            "name": name,
            "title": arm.recipe.title,
            "source": arm.recipe.source,
            "seed": arm.recipe.seed,
            "to": f"runs/{name}/{arm.name}" if arm.name else "",
            "near": str(near or ""),
        }
        said = {key: value for key, value in head.items() if value}
        said |= {} if plain.get("forgetting", True) else {"forgetting": False}
        lines += ["", *_block(arm.recipe, said)]
    return "\n".join(lines) + "\n"


def _block(recipe: schema.Recipe, head: Mapping[str, Any]) -> Iterator[str]:
    *opening, last = _call("with turnsmith.Steps", head, "")
    yield from (*opening, f"{last} as go:")
    for step in recipe.steps:
        yield from _step(step, "    ")
    for statement in recipe.claim:
        yield from _call("go.claim", _keys(statement), "    ")


def _step(step: schema.Step, indent: str) -> Iterator[str]:
    if step.repeat is not None:
        yield f"{indent}for _ in range({step.repeat.times}):"
        for inner in step.repeat.steps:
            yield from _step(inner, indent + "    ")
        return
    for verb in type(step).model_fields:
        keys: schema.Strict | None = getattr(step, verb)
        if keys is not None:
            yield from _call(f"go.{verb}", _keys(keys), indent)


def _keys(said: schema.Strict) -> dict[str, Any]:
    """What the recipe says here, in the order of the fields."""
    return {
        key: _plain(getattr(said, key)) for key in type(said).model_fields if key in said.model_fields_set
    }


def _plain(value: Any) -> Any:
    if isinstance(value, schema.Component):
        return {value.name: dict(value.options)} if value.options else value.name
    if isinstance(value, schema.Strict):
        return _keys(value)
    if isinstance(value, Fit):
        options = {field.name: getattr(value, field.name) for field in fields(Fit)}
        return {
            field.name: options[field.name] for field in fields(Fit) if options[field.name] != field.default
        }
    return [_plain(one) for one in cast("tuple[Any, ...]", value)] if isinstance(value, tuple) else value


def _call(function: str, keys: Mapping[str, Any], indent: str) -> list[str]:
    """A call with the first key by its place, on one line if that is not too long."""
    first, *others = keys.items()
    arguments = [_literal(first[1]), *(f"{key}={_literal(value)}" for key, value in others)]
    line = f"{indent}{function}({', '.join(arguments)})"
    if len(line) <= WIDTH:
        return [line]
    return [f"{indent}{function}(", *(f"{indent}    {argument}," for argument in arguments), f"{indent})"]


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if is_object(value):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(one)}" for key, one in value.items()) + "}"
    if is_list(value):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return repr(value)
