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


def several_of(example: Example, part: str) -> tuple[Conversation, ...]:
    """The several conversations that the example has as this part. Raises DataError where there are none."""
    found = example.parts.get(part)
    if not isinstance(found, tuple) or not found:
        raise DataError(
            f"example {example.id!r} has no several conversations {part!r}; it has {', '.join(example.parts)}"
        )
    return found


def worth_of(example: Example, part: str, value: str) -> tuple[float, ...]:
    """The values of the several conversations, one each. Raises DataError where there are none."""
    found = example.values.get(value)
    if not isinstance(found, tuple) or len(found) != len(several_of(example, part)):
        raise DataError(f"example {example.id!r} has no {value!r} for each of its {part!r}")
    return found


def number_of(example: Example, value: str) -> float:
    """The value, one number. Raises DataError where there is none."""
    found = example.values.get(value)
    if not isinstance(found, int | float):
        there = ", ".join(example.values) or "none"
        raise DataError(f"example {example.id!r} has no value {value!r} that is one number; it has {there}")
    return found
