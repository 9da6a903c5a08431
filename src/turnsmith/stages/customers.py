"""Customers of the game of tastes, who open a dialogue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from turnsmith.registry import stage
from turnsmith.scorers.tastes import TASTES, profile
from turnsmith.types import Conversation, Example, Message


@stage("customers", source="arXiv:2311.05584 sec. 5, as a game")
def customers(data: Sequence[Example], *, count: int) -> Iterator[Example]:
    """Add `count` customers who say `hi`, each with one of the eight profiles in turn, under `profile` of the
    metadata."""
    yield from data
    for number in range(count):
        tastes = [bool(number >> bit & 1) for bit in range(len(TASTES))]
        said = Conversation((Message("user", "hi"),))
        yield Example({"text": said}, {}, {"id": f"customer-{number}", "profile": profile(tastes)})
