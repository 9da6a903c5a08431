"""Schemas of tools in JSON Schema, and calls held against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from turnsmith.errors import DataError
from turnsmith.registry import suggest
from turnsmith.types import Call, Json, is_list, is_object

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

# OpenAI's documentation: a function without `parameters` has an empty list of them.
NOTHING: Mapping[str, Json] = {"type": "object", "additionalProperties": False}


def parameters(tools: Sequence[Mapping[str, Json]]) -> dict[str, Mapping[str, Any]]:
    """The schema of the arguments of each tool, by its name.

    tools: as OpenAI writes them, `{type: function, function: {name, parameters}}`, or the inner object alone.
    Raises DataError naming the tool and the place where a schema is none, speaks of something that is no
    object, or refers to another document; and where two tools have one name.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for number, tool in enumerate(tools, start=1):
        function: Any = tool.get("function", tool)
        name = function.get("name") if is_object(function) else None
        if not isinstance(name, str) or not name:
            raise DataError(f"tool {number} has no name: {tool!r:.80}")
        if name in found:
            raise DataError(f"two tools are called {name!r}")
        found[name] = function.get("parameters") or NOTHING
        _check(name, found[name])
    return found


def wrong(call: Call, tools: Sequence[Mapping[str, Json]]) -> list[str]:
    """What is wrong with a call, each in one sentence that names the argument; empty where nothing is.

    Only what the schema says is held against it: an argument that it does not speak of is wrong where it
    says `additionalProperties: false`. Raises DataError where a schema is none.

    >>> tool = {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}, "required": ["b"]}}
    >>> wrong(Call("add", {"a": "one"}), [tool])
    ['add: argument b is missing', "add: argument a: 'one' is not of type 'integer'"]
    """
    from jsonschema import Draft202012Validator
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    known = parameters(tools)
    if call.name not in known:
        return [f"no tool is called {call.name!r}{suggest(call.name, list(known))}"]
    held: Any = Draft202012Validator(known[call.name], registry=Registry())  # which fetches nothing
    try:
        errors = sorted(held.iter_errors(dict(call.arguments)), key=lambda error: error.json_path)
    except Unresolvable as error:
        raise DataError(
            f"the schema of tool {call.name!r} refers to what it does not have: {error}"
        ) from None
    said = (f"{call.name}: {sentence}" for error in errors for sentence in _sentences(error))
    return list(dict.fromkeys(said))


def _check(name: str, schema: Any) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    if not is_object(schema):
        raise DataError(f"the parameters of tool {name!r} are no schema: {schema!r:.80}")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = error.json_path.removeprefix("$").lstrip(".") or "at its top"
        raise DataError(f"the schema of tool {name!r} is none, {place}: {error.message}") from None
    if schema.get("type", "object") != "object":
        raise DataError(
            f"the parameters of tool {name!r} must be an object with the arguments by name, not of the type "
            f"{schema['type']!r}"
        )
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise DataError(f"the schema of tool {name!r} refers to {reference!r}, which is not fetched")


def _references(schema: Any) -> Iterator[str]:
    """What every `$ref` in it says."""
    inner = schema.values() if is_object(schema) else schema if is_list(schema) else ()
    for one in inner:
        yield from _references(one)
    if is_object(schema) and isinstance(schema.get("$ref"), str):
        yield schema["$ref"]


def _sentences(error: ValidationError) -> Iterator[str]:
    """What one error says, of the arguments that it is about."""
    place = error.json_path.removeprefix("$").lstrip(".")
    before = f"{place}." if place else ""
    schema, given = error.schema, error.instance
    if error.validator == "required" and is_object(given) and is_object(schema):
        for name in schema["required"]:
            if name not in given:
                yield f"argument {before}{name} is missing"
    elif error.validator == "additionalProperties" and is_object(given) and is_object(schema):
        known = [str(name) for name in schema.get("properties", ())]
        patterned = error.message.endswith("do not match any of the regexes") or "patternProperties" in schema
        for name in given:
            if name not in known and not patterned:
                yield f"argument {before}{name} is not known{suggest(str(name), known)}"
        if patterned:
            yield f"argument {place or 'names'}: {error.message}"
    else:
        yield f"argument {place}: {error.message}" if place else error.message
