"""Reviews of a made-up world, in which people like items for their aspects and say so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from turnsmith import seeds
from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Message

NAMED = (3, 4)  # how many aspects a review names
LIKED, TASTE = 6, 1.5  # aspects that a person likes, and how much one of them counts beside chance of scale 1


class World(NamedTuple):
    """has: (I, K), whether an item has an aspect. reviews: of each user the items in the order in which they
    were reviewed, with the aspects named of each, common ones first."""

    has: np.ndarray
    reviews: list[list[tuple[int, list[int]]]]


@stage("reviews", source="the card's synthetic world for shuyangli94/convrec_botplay")
def reviews(
    data: Sequence[Example],
    *,
    users: int,
    items: int,
    aspects: tuple[str, ...],
    side: Literal["train", "heldout"] = "train",
    each: int = 8,
    known: int = 20,
    later: int = 2,
    world: int = 0,
) -> Iterator[Example]:
    """Add a row for each review of a made-up world, behind the reviews that its user is known by:
    `u17 i3 hoppy smooth i9 crisp i42 hoppy sour`.

    An item has `each` aspects, an earlier one more often than a later one. A person likes 6 of them, reviews
    items that have them rather than others, and names 3 or 4 of an item's aspects, liked ones rather than
    others. side: the `known` reviews of each user, each behind all of them (itself too, as in the authors'
    profiles), or the `later` ones, behind the known ones, with all aspects of their item as `wanted` in the
    metadata. world: which one; two steps that name the same number take sides of the same one.
    Raises UsageError where there are fewer aspects or items than are asked for.
    """
    yield from data
    if not NAMED[1] <= each <= len(aspects) or known + later > items or min(known, later) < 1:
        raise UsageError(
            f"reviews: items have {each} of {len(aspects)} aspects, and users review {known} + {later} of "
            f"{items} items: at least {NAMED[1]} aspects, a review on each side, and enough of all are needed"
        )
    made = a_world(users, items, len(aspects), each=each, reviews=known + later, number=world)
    for user, all_of in enumerate(made.reviews):
        before = "".join(f" {_text(review, aspects)}" for review in all_of[:known])
        for item, named in all_of[:known] if side == "train" else all_of[known:]:
            said = (
                Message("text", f"u{user}{before}", weight=0.0),
                Message("text", f" {_text((item, named), aspects)}", weight=1.0),
            )
            wanted = {"wanted": [aspects[one] for one in np.flatnonzero(made.has[item])]}
            meta = {"id": f"u{user}-i{item}", **(wanted if side == "heldout" else {})}
            yield Example({"text": Conversation(said)}, {}, meta)


def a_world(users: int, items: int, aspects: int, *, each: int, reviews: int, number: int) -> World:
    """The world of this number: which items have what, and what people say of them."""
    rng = seeds.array("reviews", number)
    common = 1 / (10 + np.arange(aspects))
    has = np.zeros((items, aspects), bool)
    for item in range(items):
        has[item, rng.choice(aspects, each, replace=False, p=common / common.sum())] = True
    found: list[list[tuple[int, list[int]]]] = []
    for _ in range(users):
        likes = np.zeros(aspects)
        likes[rng.choice(aspects, min(LIKED, aspects), replace=False)] = TASTE
        chosen = np.argsort(-(has @ likes + rng.gumbel(size=items)))[:reviews]
        rng.shuffle(chosen)
        found.append([(int(item), _named(has[item], likes, rng)) for item in chosen])
    return World(has, found)


def _named(has: np.ndarray, likes: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Some of an item's aspects, liked ones rather than others."""
    order = np.argsort(-np.where(has, likes + rng.gumbel(size=len(has)), -np.inf))
    return sorted(order[: rng.integers(NAMED[0], NAMED[1] + 1)].tolist())


def _text(review: tuple[int, Sequence[int]], aspects: Sequence[str]) -> str:
    return " ".join([f"i{review[0]}", *(aspects[one] for one in review[1])])
