"""What an objective declares that it needs of models; read without torch, for the check of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from turnsmith.types import Json, Size, is_list, is_object


def heads(traits: Mapping[str, Json]) -> dict[str, Size]:
    """The sizes of the heads that an objective's traits declare. The index of components is kept as JSON,
    which has no tuples.

    >>> heads({"heads": {"value": 1, "reward": ["last", 1]}})
    {'value': 1, 'reward': ('last', 1)}
    """
    found = traits.get("heads") or {}
    assert is_object(found)
    return {name: cast("Size", tuple(size) if is_list(size) else size) for name, size in found.items()}
