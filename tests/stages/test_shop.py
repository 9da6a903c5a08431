"""Talks in the shop: who says what when, and how often."""

from random import Random

import pytest

from turnsmith.agents.shop import GOODS, answer
from turnsmith.errors import UsageError
from turnsmith.stages.shop import shop_talks


def talks(count=400, **options):
    return list(shop_talks([], count=count, rng=Random(0), **options))


def said(one):
    return [message.content for message in one.parts["text"].messages]


def test_the_customer_of_a_talk_is_the_agent():
    for one in talks(40):
        seller, customer = said(one)[1::2], said(one)[2::2]
        assert len(said(one)) == 10
        assert customer == [answer(one.meta["wish"], text) for text in seller[:-1]]


def test_a_seller_that_never_slips_offers_what_it_was_told_from_then_on():
    for one in talks(60, asks=1.0, slips=0.0):
        assert said(one)[1::2] == ["which?", *[one.meta["wish"]] * 4]


def test_a_seller_that_never_asks_knows_what_was_wanted_once_it_was_taken():
    for one in talks(200, asks=0.0, slips=0.0):
        texts, wish = said(one)[1::2], one.meta["wish"]
        assert "which?" not in texts
        assert set(texts) <= set(GOODS)
        if wish in texts:
            assert set(texts[texts.index(wish) :]) == {wish}


def test_it_asks_and_slips_as_often_as_it_is_told():
    first = [said(one)[1] == "which?" for one in talks(2000, turns=1, asks=0.3)]
    assert sum(first) / 2000 == pytest.approx(0.3, abs=0.041)  # four standard errors
    second = [said(one)[3] == one.meta["wish"] for one in talks(2000, turns=2, asks=1.0, slips=0.3)]
    assert sum(second) / 2000 == pytest.approx(0.7 + 0.3 / 4, abs=0.039)


def test_what_was_there_comes_first_and_bad_options_are_refused():
    (old,) = talks(1)
    assert list(shop_talks([old], count=0, rng=Random(0))) == [old]
    for wrong in ({"turns": 0}, {"asks": 1.5}, {"slips": -0.1}):
        with pytest.raises(UsageError, match="shop_talks"):
            talks(1, **wrong)
