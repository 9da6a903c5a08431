"""Travellers of the game of tastes, who open a dialogue, and what a seller knows before it has met one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from random import Random

from turnsmith.registry import stage
from turnsmith.scorers.tastes import TASTES, place
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


@stage("places", source="arXiv:2311.05584 sec. 5, as a game")
def places(data: Sequence[Example], *, count: int, rng: Random) -> Iterator[Example]:
    """Add `count` raw texts that say what places are called, as `Art Sea` and `go SHA` below it.

    One, two or all three tastes stand in any order before the place, three twice as often; what is not said
    may be either. A network that has read them knows the language of the game, and nothing of asking.
    """
    yield from data
    for number in range(count):
        answers = [rng.choice(either) for either in TASTES.values()]
        said = rng.sample(answers, rng.choice((1, 2, 3, 3)))
        text = f"{' '.join(said)}\ngo {place(answers)}"
        yield Example({"text": Conversation((Message("text", text),))}, {}, {"id": f"place-{number}"})
