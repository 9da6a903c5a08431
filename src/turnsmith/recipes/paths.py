"""Places in a recipe that is still plain YAML data, as `steps.1.train.fit.lr`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from turnsmith.errors import UsageError
from turnsmith.types import is_list, is_object


def unshared(plain: Any) -> Any:
    """A copy in which nothing occurs twice: what YAML's anchors share becomes independent."""
    if is_object(plain):
        return {key: unshared(value) for key, value in plain.items()}
    return [unshared(value) for value in plain] if is_list(plain) else plain


def assign(plain: dict[str, Any], path: str, value: Any) -> None:
    """Set `steps.1.train.fit.lr`-like paths. The last key may be new; the way to it must be there.

    `*` stands for every item of a list that has the next key, as in `steps.*.train.fit.steps`.
    """
    before, star, after = path.partition(".*.")
    if star:
        for number in _items_with(plain, before, after.split(".")[0]):
            assign(plain, f"{before}.{number}.{after}", value)
        return
    at = cast("Any", plain)
    keys = path.split(".")
    for place in range(len(keys)):
        key = _key(at, keys, place)
        if place == len(keys) - 1:
            at[key] = value
        else:
            if at[key] == keys[place + 1]:
                at[key] = {at[key]: {}}  # a component written as its name gets room for options
            elif is_object(at) and at[key] is None:
                at[key] = {}
            at = at[key]


def _items_with(plain: dict[str, Any], path: str, key: str) -> list[int]:
    """Which items of the list at `path` have the key; UsageError where none has."""
    items, keys = cast("Any", plain), [*path.split("."), "*"]
    for place in range(len(keys) - 1):
        items = items[_key(items, keys, place)]
    found = [number for number, item in enumerate(items) if is_object(item) and key in item]
    if not found or not is_list(items):
        raise UsageError(f"{path}.*.{key}: {path} is no list with an item that has {key!r}")
    return found


def _key(at: Any, keys: Sequence[str], place: int) -> int | str:
    """`keys[place]`, as an index where `at` is a list; UsageError says what is there instead."""
    key, path, before = keys[place], ".".join(keys), ".".join(keys[:place])
    if is_list(at):
        if not key.isdecimal() or int(key) >= len(at):
            raise UsageError(f"{path}: {before} has the indices 0 to {len(at) - 1}, not {key!r}")
        return int(key)
    if not is_object(at) or (place < len(keys) - 1 and key not in at):
        there = ", ".join(map(str, at)) if is_object(at) else "no keys"
        raise UsageError(f"{path}: there is no {key!r} at {before or 'the top'}; it has {there}")
    return key
