"""What is in a file of data, as far as it decides what methods can learn from it."""

from __future__ import annotations

from collections import Counter

from turnsmith.errors import UsageError
from turnsmith.recipes.methods import Look
from turnsmith.registry import Registry
from turnsmith.stages.ratings import rating


def look(data: str, registry: Registry) -> Look:
    """Read all of it once. rated: somebody rated an example; people: every example says whose it is."""
    from turnsmith.data import formats, read

    _, examples = formats.stream(read.locate(data), "auto", registry, Counter())
    parts: Counter[str] = Counter()
    count = rated = people = 0
    for example in examples:
        count += 1
        parts.update(list(example.parts))
        rated += rating(example) is not None
        people += "people" in example.meta
    if not count:
        raise UsageError(f"{data}: not one usable example")
    everywhere = frozenset(name for name, there in parts.items() if there == count)
    return Look(everywhere, rated > 0, people == count, count)
