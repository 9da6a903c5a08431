"""Talks in a shop, by a seller who seldom asks and sometimes forgets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from turnsmith.agents.shop import ASK, GOODS, HELLO, answer
from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Message


@stage("shop_talks")
def shop_talks(
    data: Sequence[Example],
    *,
    count: int,
    turns: int = 5,
    asks: float = 0.3,
    slips: float = 0.3,
    rng: Random,
) -> Iterator[Example]:
    """Add `count` talks of a seller with an agent `customer`, whose wish is `meta["wish"]`.

    turns: answers of the seller. asks: how probably one who does not know the wish asks for it; else it
    offers any of four things. slips: how probably one who was told it offers any thing all the same.
    """
    yield from data
    if turns < 1 or not (0 <= asks <= 1 and 0 <= slips <= 1):
        raise UsageError(
            f"shop_talks: {turns} turns, asks {asks}, slips {slips}: at least 1 turn, and shares from 0 to 1"
        )
    for number in range(count):
        wish, known = rng.choice(GOODS), False
        said = [Message("user", HELLO)]
        for turn in range(turns):
            if turn:
                said.append(Message("user", answer(wish, said[-1].content)))
                known = known or said[-2].content in (ASK, wish)
            said.append(Message("assistant", _offer(rng, wish if known else None, asks, slips)))
        yield Example({"text": Conversation(tuple(said))}, {}, {"id": f"talk-{number}", "wish": wish})


def _offer(rng: Random, wish: str | None, asks: float, slips: float) -> str:
    if wish is None and rng.random() < asks:
        return ASK
    return wish if wish is not None and rng.random() >= slips else rng.choice(GOODS)
