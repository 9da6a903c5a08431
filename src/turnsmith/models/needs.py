"""What an objective declares that it needs of models; read without torch, for the check of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from turnsmith.types import Json, Size, is_list, is_object

AGAINST = ("kl", "reverse_kl")  # reductions of a model's logits and those of another, as `kl:NAME`


def others(needs: Sequence[str]) -> tuple[str, ...]:
    """The other models that some of the reductions are against.

    >>> others(["entropy", "kl:teacher", "q:max"])
    ('teacher',)
    """
    pairs = (need.partition(":") for need in needs)
    return tuple(dict.fromkeys(name for reduction, _, name in pairs if name and reduction in AGAINST))


def heads(traits: Mapping[str, Json]) -> dict[str, Size]:
    """The sizes of the heads that an objective's traits declare. The index of components is kept as JSON,
    which has no tuples.

    >>> heads({"heads": {"value": 1, "reward": ["last", 1]}})
    {'value': 1, 'reward': ('last', 1)}
    """
    found = traits.get("heads") or {}
    assert is_object(found)
    return {name: cast("Size", tuple(size) if is_list(size) else size) for name, size in found.items()}
