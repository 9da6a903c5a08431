"""Registered components with their options filled in, as the contracts take them."""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from turnsmith import seeds
from turnsmith.models import needs
from turnsmith.registry import Registry
from turnsmith.train.method import Method
from turnsmith.types import Example

if TYPE_CHECKING:
    from turnsmith.evaluation.suite import Task
    from turnsmith.registry import Per

Stage = Callable[[Sequence[Example]], Iterable[Example]]


def method(
    name: str, options: Mapping[str, Any] | None = None, *, registry: Registry | None = None
) -> Method:
    """An objective as the loop takes it."""
    known = registry or Registry()
    traits: Mapping[str, Any] = known.entry("objective", name).traits
    filled = functools.partial(
        known.function("objective", name), **known.options("objective", name, options or {})
    )
    reads, wanted = (tuple(map(str, traits.get(name, ()))) for name in ("reads", "needs"))
    return Method(
        filled,
        cast("Per", traits["per"]),
        reference=bool(traits.get("reference")),
        reads=reads,
        linear=bool(traits.get("linear")),
        needs=wanted,
        heads=needs.heads(traits),
        forward=bool(traits.get("forward")),
        network=str(traits.get("network", "")),
    )


def stage(
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    registry: Registry | None = None,
    seed: int = 0,
) -> Stage:
    """A stage as a function of examples; `rng` and `counts` are new for each call, where it asks for them."""
    known = registry or Registry()
    function = known.function("stage", name)
    filled = known.options("stage", name, options or {})
    asks = inspect.signature(function).parameters

    def put_through(data: Sequence[Example]) -> Iterable[Example]:
        given: dict[str, Any] = {"rng": seeds.stream(seed, "stage", name), "counts": Counter()}
        return function(data, **filled, **{key: value for key, value in given.items() if key in asks})

    return put_through


def task(
    name: str, options: Mapping[str, Any] | None = None, *, registry: Registry | None = None
) -> Callable[[], Task]:
    """What makes a task."""
    known = registry or Registry()
    return functools.partial(known.function("task", name), **known.options("task", name, options or {}))
