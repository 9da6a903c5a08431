"""The made-up world: what its rows say, and that its two sides are of one world."""

from collections import Counter

import numpy as np
import pytest

from turnsmith.errors import UsageError
from turnsmith.stages.reviews import a_world, reviews

ASPECTS = (
    *("hoppy", "smooth", "sour", "dry", "sweet", "malty"),
    *("bitter", "fruity", "dark", "light", "crisp", "citrus"),
)
SIZES = {"users": 5, "items": 20, "aspects": ASPECTS, "each": 6, "known": 4, "later": 2}


def rows(**options):
    return list(reviews([], **(SIZES | options)))


def said(example):
    """Its history and its last review, each as words."""
    before, last = example.parts["text"].messages
    assert (before.role, before.weight, last.role, last.weight) == ("text", 0.0, "text", 1.0)
    return before.content.split(), last.content.split()


def test_each_known_review_is_asked_for_behind_all_of_them():
    found = rows()
    assert len(found) == 5 * 4
    before, last = said(found[1])
    assert before[0] == "u0"
    items = [word for word in before if word[1:].isdigit()][1:]
    assert len(items) == 4
    assert last[0] == items[1]
    at = before.index(last[0])
    assert before[at : at + len(last)] == last  # its own review is among them
    assert 3 <= len(last) - 1 <= 4
    assert set(last[1:]) <= set(ASPECTS)


def test_what_is_held_out_is_of_the_same_people_and_was_not_reviewed_before():
    known, later = rows(), rows(side="heldout")
    assert len(later) == 5 * 2
    for number, example in enumerate(later):
        before, last = said(example)
        assert before == said(known[4 * (number // 2)])[0]
        assert last[0] not in before
        assert set(last[1:]) <= set(example.meta["wanted"])
        assert len(example.meta["wanted"]) == 6


def test_a_world_is_its_number():
    assert rows() == rows()
    assert rows(world=1) != rows()


def test_people_review_what_they_like_and_name_what_they_like():
    """Of the aspects that a person names, the three commonest make up more than their share of what items
    have, which is a tenth."""
    world = a_world(60, 200, 30, each=8, reviews=20, number=3)
    shares = []
    for said in world.reviews:
        assert len({item for item, _ in said}) == 20
        assert all(world.has[item, named].all() for item, named in said)
        counts = Counter(one for _, named in said for one in named)
        shares.append(sum(count for _, count in counts.most_common(3)) / counts.total())
    assert np.mean(shares) > 0.3
    assert (world.has.sum(1) == 8).all()
    assert world.has[:, :10].sum() > 2 * world.has[:, 20:].sum()  # what stands first is commoner


@pytest.mark.parametrize("options", [{"each": 13}, {"each": 3}, {"known": 19}, {"later": 0}])
def test_a_world_that_is_too_small_is_refused(options):
    with pytest.raises(UsageError, match="reviews: items have"):
        rows(**options)
