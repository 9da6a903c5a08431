"""What stages ask of an example."""

from __future__ import annotations

from turnsmith.errors import DataError
from turnsmith.types import Conversation, Example


def conversation_of(example: Example, part: str) -> Conversation:
    """The one conversation that the example has as this part. Raises DataError where there is none."""
    found = example.parts.get(part)
    if not isinstance(found, Conversation):
        there = ", ".join(example.parts)
        raise DataError(f"example {example.id!r} has no conversation {part!r}; it has {there}")
    return found
