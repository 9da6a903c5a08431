"""The truthful traveller and the sloppy seller."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from turnsmith.agents.tastes import SloppySeller, Traveller
from turnsmith.errors import UsageError
from turnsmith.rollout.converse import Opening, Speaker, converse
from turnsmith.scorers.tastes import TASTES, place, suits
from turnsmith.stages.travellers import places, travellers
from turnsmith.testing import chat
from turnsmith.types import Failure, Message, Reply

KNOWN = ["s: Sea, Dry, Fun", "a: hi"]


def said(reply: Reply | Failure) -> str:
    return reply.message.content if isinstance(reply, Reply) else reply.reason


@pytest.mark.parametrize(
    ("asked", "answer"),
    [("sea?", "Sea"), ("hot?", "Dry"), ("go IDA", "bye"), ("ok?", "hm"), ("go away", "hm")],
)
def test_the_traveller_answers_truthfully(asked: str, answer: str) -> None:
    assert [said(one) for one in Traveller()([chat(*KNOWN, f"u: {asked}")])] == [answer]


def test_a_traveller_who_was_told_nothing_and_hears_a_profile_cannot_answer() -> None:
    (reply,) = Traveller()([chat("a: hi", "u: Sea, Dry, Fun", "a: hm", "u: sea?")])
    assert reply == Failure("the traveller was not told what it likes")


def test_a_hasty_seller_recommends_at_once_and_a_patient_one_asks_until_its_last_turn() -> None:
    told = chat("u: hi", "a: sea?", "u: Sea", "a: hot?", "u: Dry", "a: fun?", "u: Fun")
    hasty = SloppySeller(hasty=1.0, chatty=0.0, careless=0.0)
    assert {said(one) for one in hasty([told] * 20)} == {"go SDF"}  # what it has heard it minds
    patient = SloppySeller(hasty=0.0, chatty=0.0, careless=0.0, turns=4)
    assert {said(one) for one in patient([told] * 5)} == {"go SDF"}
    assert {said(one) for one in patient([told.upto(5)] * 40)} == set(TASTES)


def test_a_careless_seller_takes_any_place_and_one_that_knows_a_part_guesses_the_rest() -> None:
    told = chat("u: hi", "a: sea?", "u: Sea", "a: hot?", "u: Dry")
    careless, careful = (SloppySeller(hasty=1.0, chatty=0.0, careless=share) for share in (1.0, 0.0))
    assert {said(one) for one in careful([told] * 40)} == {"go SDF", "go SDA"}
    assert len({said(one) for one in careless([told] * 200)}) == 8


def test_chat_comes_as_often_as_asked_for() -> None:
    counts = Counter(map(said, SloppySeller(hasty=0.0, chatty=0.25)([chat("u: hi")] * 2000)))
    assert counts["ok?"] / 2000 == pytest.approx(0.25, abs=0.03)  # three standard errors of 0.0097


@pytest.mark.parametrize("options", [{"hasty": 0.8, "chatty": 0.3}, {"careless": 1.1}, {"hasty": -0.1}])
def test_what_is_no_probability_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="have to be probabilities"):
        SloppySeller(**options)


def test_who_asks_for_all_and_recommends_what_was_said_always_sells() -> None:
    """The known optimum of the game: a success of 1 with three questions."""

    def best(asked, *, sampling=None, seed=0):
        heard = [[one.content for one in talk.messages[1:] if one.role == "user"] for talk in asked]
        texts = [[*TASTES][len(known)] if len(known) < 3 else f"go {place(known)}" for known in heard]
        return [Reply.scripted(text) for text in texts]

    people = list(travellers([], count=8))
    openings = [
        Opening(one.parts["text"], {"user": (Message("system", str(one.meta["profile"])),)}) for one in people
    ]
    speakers = {"user": Speaker(Traveller(), closing=("bye",)), "model": Speaker(best)}
    dialogues = converse(speakers, openings, turns=9, seed=0)
    assert suits([one.view("model") for one in dialogues], people) == [1.0] * 8


def test_travellers_have_each_profile_equally_often() -> None:
    people = Counter(one.meta["profile"] for one in travellers([], count=24))
    assert len(people) == 8
    assert set(people.values()) == {3}


def test_texts_of_places_agree_with_what_they_say_and_leave_the_rest_open() -> None:
    open_ends = Counter()
    for one in places([], count=300, rng=Random(0)):
        said, named = one.parts["text"].messages[0].content.split("\n")
        words = said.split()
        assert {word[0] for word in words} <= set(named.removeprefix("go "))
        assert 1 <= len(set(words)) == len(words) <= 3
        open_ends[len(words)] += 1
    assert open_ends[3] / 300 == pytest.approx(0.5, abs=0.09)  # three standard errors of 0.029
