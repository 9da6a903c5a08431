"""What an objective declares that it needs of models; read without torch, for the check of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

from turnsmith.types import Json, Read, Size, is_object

AGAINST = ("kl", "reverse_kl", "jsd")  # reductions of a model's logits and those of another, as `kl:NAME`
LAYERS = ("states", "attention")  # of a model's layers and those of another, as `states:NAME`
HEADS = "heads"  # what another model's own heads say, as `heads:NAME`
OWN = "own"  # what a head sits on that reads each trained token's own state
TARGET = "_target"  # behind the name of a head, of the copy that follows it


def others(needs: Sequence[str]) -> tuple[str, ...]:
    """The other models that some of the needs speak of.

    >>> others(["entropy", "kl:teacher", "q:max", "states:start"])
    ('teacher', 'start')
    """
    return of_kind(needs, *AGAINST, *LAYERS, HEADS)


def of_kind(needs: Sequence[str], *kinds: str) -> tuple[str, ...]:
    """The other models that the needs of some kinds speak of.

    >>> of_kind(["jsd/0.5:teacher", "states:start", "heads:start"], "states", "attention")
    ('start',)
    """
    pairs = (need.partition(":") for need in needs)
    return tuple(dict.fromkeys(name for kind, _, name in pairs if name and kind.partition("/")[0] in kinds))


def heads(traits: Mapping[str, Json], options: Mapping[str, Json] | None = None) -> dict[str, Size]:
    """The sizes of the heads that an objective's traits declare, with options in the place of their names in
    braces. The index of components is kept as JSON, which has no tuples.

    >>> heads({"heads": {"value": 1, "reward": ["last", 1]}})
    {'value': 1, 'reward': ('last', 1)}
    >>> heads({"heads": {"rating": ["{read}", "narrow", 1]}}, {"read": "mean"})
    {'rating': ('mean', 'narrow', 1)}
    """
    found = traits.get("heads") or {}
    assert is_object(found)

    def filled(word: Json) -> Json:
        return word.format(**(options or {})) if isinstance(word, str) else word

    return {
        name: cast("Size", tuple(map(filled, size)) if isinstance(size, list | tuple) else size)
        for name, size in found.items()
    }


def targets(traits: Mapping[str, Json], options: Mapping[str, Json]) -> dict[str, float]:
    """The heads that a copy follows, and how much of the way it goes after each step: what the option that
    an objective's traits name says.

    >>> targets({"targets": {"q1": "follow"}}, {"follow": 0.005})
    {'q1': 0.005}
    """
    found = traits.get("targets") or {}
    assert is_object(found)
    return {name: cast("float", options[option]) for name, option in found.items()}


def needs(traits: Mapping[str, Json], options: Mapping[str, Json]) -> tuple[str, ...]:
    """The reductions that an objective's traits declare, with options in the place of their names in braces.

    >>> needs({"needs": ["entropy", "q1:logsumexp/{softness}"]}, {"softness": 0.5})
    ('entropy', 'q1:logsumexp/0.5')
    """
    found = traits.get("needs") or ()
    assert isinstance(found, list | tuple)
    return tuple(str(need).format(**options) for need in found)


def count_of(size: Size) -> int | Literal["vocab"]:
    """How many numbers a head of this size gives.

    >>> count_of(3), count_of(("mlp", "vocab")), count_of(("last", 1))
    (3, 'vocab', 1)
    """
    return size[-1] if isinstance(size, tuple) else size


def read_of(size: Size) -> Read | None:
    """The read-out that a head of this size sits on; None of one on tokens.

    >>> read_of(("last", 1)), read_of(("mlp", 1)), read_of(("own", 1)), read_of("vocab")
    ('last', None, None, None)
    """
    return size[0] if isinstance(size, tuple) and size[0] not in ("mlp", OWN) else None


def is_own(size: Size) -> bool:
    """Whether a head of this size reads the state of each trained token itself, not of the one before it."""
    return isinstance(size, tuple) and size[0] == OWN
