"""A bandit with 100 actions in a row, and a policy that takes those at one end of the row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random

from turnsmith.registry import stage
from turnsmith.scorers.bump import ACTIONS
from turnsmith.types import Conversation, Example, Message

PLACE, SCALE = -0.7, 0.4  # of the Cauchy distribution whose tanh the data policy draws: the paper's


@stage("bandit", source="arXiv:2404.14367 sec. 4.1, and its code")
def bandit(data: Sequence[Example], *, count: int, rng: Random) -> Iterator[Example]:
    """Add `count` exchanges: a context, which is one of ten digits, and the action that the data policy took.

    The policy draws from a Cauchy distribution around -0.7 with scale 0.4, whose tanh falls into one of 100
    bins on [-1, 1]: mostly the first one and those around the 20th. No reward depends on the context.
    """
    yield from data
    for number in range(count):
        drawn = math.tanh(PLACE + SCALE * math.tan(math.pi * (rng.random() - 0.5)))
        action = ACTIONS[min(int((drawn + 1) / 2 * len(ACTIONS)), len(ACTIONS) - 1)]
        said = Conversation((Message("user", str(number % 10)), Message("assistant", action)))
        yield Example({"text": said}, {}, {"id": f"bandit-{number}"})


def data_policy() -> list[float]:
    """The probability of each action under the data policy, from the distribution function."""
    edges = (2 * place / len(ACTIONS) - 1 for place in range(1, len(ACTIONS)))
    below = [0.0, *(math.atan((math.atanh(edge) - PLACE) / SCALE) / math.pi + 0.5 for edge in edges), 1.0]
    return [after - before for before, after in pairwise(below)]
