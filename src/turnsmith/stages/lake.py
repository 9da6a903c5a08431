"""Ways over gymnasium's frozen lake: 4 x 4 squares, to be crossed from the first to the last between holes.

The squares are the letters a to p, row by row. Nobody slips here: an action leads to one square, and one
against the border leaves one where one is. A way is a text, one letter for each square that one stood on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np

from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Message

SQUARES = "abcdefghijklmnop"
ACTIONS = "ldru"  # left, down, right, up, in gymnasium's order
PATIENCE = 100  # steps after which gymnasium ends a walk
SETTLED = 1e-12  # change of a value below which no action is preferred for it


@stage("lake_walks", source="arXiv:2405.11870 sec. 5")
def lake_walks(data: Sequence[Example], *, count: int, rng: Random) -> Iterator[Example]:
    """Add `count` aimless ways over the frozen lake: each step in any of four directions, to a hole or the
    goal, at most 100 steps."""
    yield from data
    lake = made()
    for number in range(count):
        way = walked(lake, (rng.randrange(len(ACTIONS)) for _ in range(PATIENCE)))
        yield Example({"text": _text(way)}, {}, {"id": f"walk-{number}"})


@stage("lake_pair", source="arXiv:2405.11870 sec. 5")
def lake_pair(data: Sequence[Example], *, optimal: str = "ddrdrr", other: str) -> Iterator[Example]:
    """Add two ways over the frozen lake, an optimal one (`text` and `chosen`) and another one (`rejected`).

    optimal, other: actions, letters of l, d, r, u. Raises UsageError where a letter is none of them, the
    first way is not optimal, or the second one is or does not end in a hole or at the goal.
    """
    yield from data
    lake = made()
    ways = [walked(lake, _actions(name, given)) for name, given in (("optimal", optimal), ("other", other))]
    best = policy(lake, discount=0.95)  # any below 1 prefers the same ways: the goal alone gives a reward
    ends = ended(lake)
    good = [ends[SQUARES.index(way[-1])] and _follows(best, way) for way in ways]
    if not good[0] or good[1] or not ends[SQUARES.index(ways[1][-1])]:
        raise UsageError(
            f"lake_pair: {optimal!r} leads {ways[0]} and {other!r} leads {ways[1]}: the first has to be an "
            "optimal way to the goal p, the second one that ends there or in a hole (f, h, l, m) and is none"
        )
    parts = {"text": ways[0], "chosen": ways[0], "rejected": ways[1]}
    yield Example({part: _text(way) for part, way in parts.items()}, {}, {"id": "lake-pair"})


def made() -> Any:
    """The environment. Raises UsageError where gymnasium is not installed."""
    try:
        import gymnasium
    except ImportError:
        raise UsageError("the frozen lake needs gymnasium: pip install 'turnsmith[worlds]'") from None
    return gymnasium.make("FrozenLake-v1", map_name="4x4", is_slippery=False)


def walked(lake: Any, actions: Iterable[int]) -> str:
    """The squares that the actions lead over, the first one included, until the walk ends."""
    square, _ = lake.reset(seed=0)
    way = SQUARES[square]
    for action in actions:
        square, _, done, late, _ = lake.step(action)
        way += SQUARES[square]
        if done or late:
            break
    return way


def policy(lake: Any, *, discount: float) -> np.ndarray:
    """(16, 16): how probably the optimal policy steps from one square to another; 0 from holes and goal.

    By value iteration; `discount`, between 0 and 1, of the rewards to come. Where several actions are equally
    good they are equally probable, so that the order of their numbers does not matter.
    """
    table = lake.unwrapped.P  # [square][action]: one (probability, next square, reward, whether it ends)
    outcomes = np.array([[table[at][a][0][1:] for a in range(len(ACTIONS))] for at in range(len(SQUARES))])
    to, reward, end = outcomes[..., 0].astype(int), outcomes[..., 1], outcomes[..., 2]
    best, change = np.zeros(len(SQUARES)), 1.0
    worth = reward
    while change > SETTLED:
        worth = reward + discount * best[to] * (1 - end)
        change, best = np.abs(worth.max(1) - best).max(), worth.max(1)
    equally = (worth > best[:, None] - SETTLED) & ~ended(lake)[:, None]
    steps = np.zeros((len(SQUARES), len(SQUARES)))
    at = np.broadcast_to(np.arange(len(SQUARES))[:, None], to.shape)
    np.add.at(steps, (at, to), equally / np.maximum(equally.sum(1), 1)[:, None])
    return steps


def ended(lake: Any) -> np.ndarray:
    """(16,): whether a square is a hole or the goal, where a walk ends."""
    return np.isin(lake.unwrapped.desc.flatten(), [b"H", b"G"])


def _follows(best: np.ndarray, way: str) -> bool:
    """Whether every step of the way is one that the optimal policy takes."""
    return all(best[SQUARES.index(at), SQUARES.index(to)] > 0 for at, to in pairwise(way))


def _actions(name: str, given: str) -> list[int]:
    if not given or set(given) - set(ACTIONS):
        raise UsageError(f"lake_pair: {name} is {given!r}: actions are letters of l, d, r, u")
    return [ACTIONS.index(letter) for letter in given]


def _text(way: str) -> Conversation:
    return Conversation((Message("text", way),))
