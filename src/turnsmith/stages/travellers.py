"""Travellers of the game of tastes, who open a dialogue."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from turnsmith.registry import stage
from turnsmith.scorers.tastes import TASTES
from turnsmith.types import Conversation, Example, Message


@stage("travellers", source="arXiv:2311.05584 sec. 5, as a game")
def travellers(data: Sequence[Example], *, count: int) -> Iterator[Example]:
    """Add `count` travellers who say `hi`, with one of the eight profiles in turn under `profile` of the
    metadata."""
    yield from data
    profiles = [", ".join(answers) for answers in itertools.product(*TASTES.values())]
    for number in range(count):
        said = Conversation((Message("user", "hi"),))
        profile = profiles[number % len(profiles)]
        yield Example({"text": said}, {}, {"id": f"traveller-{number}", "profile": profile})
