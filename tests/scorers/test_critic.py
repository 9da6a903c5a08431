"""Judging behind a critique, with a small judge that was trained to."""

import pytest

from turnsmith.models import heads
from turnsmith.models.score import Scoring
from turnsmith.scorers.critic import REQUEST, Critic
from turnsmith.scorers.reward_model import RewardModel
from turnsmith.testing import SCORER, chat, model
from turnsmith.types import Example, Failure, Message, Reply

CHATS = [chat("u: 2 + 2?", f"a: It is {number}.") for number in (3, 4, 5)]
EXAMPLES = [Example({"text": one}, {}, {"id": f"c{at}"}) for at, one in enumerate(CHATS)]


def writes(conversations, *, sampling=None, seed=0):
    """`Four` of each, but where the answer is 5 it cannot."""
    assert all(one.messages[-1].content == REQUEST for one in conversations)
    fives = [one.messages[-2].content == "It is 5." for one in conversations]
    return [Failure("no") if five else Reply.scripted("Four.") for five in fives]


@pytest.fixture
def judge(place, home):
    """The small model with a head that judges as it was drawn."""
    heads.save(Scoring(model(), heads={"reward": ("last", 1)}).heads, place)
    return str(place)


def test_the_number_is_that_of_the_answer_with_its_critique_behind_it(judge):
    found = Critic(by=judge, writer=writes)(CHATS, EXAMPLES)
    told = [one.then(Message("user", REQUEST), Message("assistant", "Four.")) for one in CHATS[:2]]
    assert found[:2] == pytest.approx(RewardModel(by=judge)(told, EXAMPLES[:2]), abs=1e-5)
    assert found[0] != found[1]
    assert found[2] is None  # no critique came


def test_a_critique_that_does_not_fit_is_not_judged(judge):
    assert Critic(by=judge, writer=writes, length=10)(CHATS[:1], EXAMPLES[:1]) == [None]


@pytest.mark.parametrize("check", SCORER, ids=lambda check: check.__name__)
def test_contract(check, judge):
    check(Critic(by=judge, writer=writes), CHATS[:2], EXAMPLES[:2])
