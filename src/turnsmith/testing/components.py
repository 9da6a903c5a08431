"""Registered components with their options filled in, as the contracts take them."""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from turnsmith import seeds
from turnsmith.registry import Kind, Registry, bound
from turnsmith.train.method import Method, declared
from turnsmith.types import Chat, Example, Scorer

if TYPE_CHECKING:
    from turnsmith.evaluation.suite import Task

Stage = Callable[[Sequence[Example]], Iterable[Example]]


def method(
    name: str, options: Mapping[str, Any] | None = None, *, registry: Registry | None = None
) -> Method:
    """An objective as the loop takes it."""
    return declared(name, options or {}, registry or Registry())


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


def agent(name: str, options: Mapping[str, Any] | None = None, *, registry: Registry | None = None) -> Chat:
    """An agent as a chat."""
    return _called("agent", name, options, registry)


def scorer(
    name: str, options: Mapping[str, Any] | None = None, *, registry: Registry | None = None
) -> Scorer:
    """A scorer as it is called."""
    return _called("scorer", name, options, registry)


def _called(
    kind: Kind, name: str, options: Mapping[str, Any] | None, registry: Registry | None
) -> Callable[..., Any]:
    known = registry or Registry()
    function, given = known.function(kind, name), known.options(kind, name, options or {})
    return bound(function, given)


def task(
    name: str, options: Mapping[str, Any] | None = None, *, registry: Registry | None = None
) -> Callable[[], Task]:
    """What makes a task."""
    known = registry or Registry()
    return functools.partial(known.function("task", name), **known.options("task", name, options or {}))
