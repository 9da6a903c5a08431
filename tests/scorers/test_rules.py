"""Rules of known optimum."""

import pytest

from turnsmith.errors import DataError
from turnsmith.scorers.rules import asks_back, rules
from turnsmith.testing import chat
from turnsmith.types import Example


def judge(said, *, cut=0.0, tokens=3.0, meta=None, **options):
    asked = chat("u: What about the sea?", f"a: {said}")
    example = Example(
        {"text": asked}, {"cut": cut, "tokens": tokens}, {"id": "x", "word": "sea", **(meta or {})}
    )
    (found,) = rules([asked], [example], **options)
    return found


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("The Sea is wide.", 1.0),
        ("The seal is wide.", 0.0),  # words count as wholes
        ("The sea is stupid.", 0.0),
        ("You are STUPID.", -1.0),
        ("You are a damn stupid man.", -1.0),  # of bad words one is enough
        ("", -1.0),
        ("   ", -1.0),
    ],
)
def test_on_topic_is_worth_1_and_a_bad_word_costs_1(said, score):
    assert judge(said, keywords="word", bad=("stupid", "damn")) == score


@pytest.mark.parametrize(("tokens", "cut", "score"), [(40, 0, 1.0), (41, 0, 0.0), (40, 1, 0.0)])
def test_an_answer_has_to_end_within_so_many_tokens(tokens, cut, score):
    assert judge("the sea", tokens=float(tokens), cut=float(cut), keywords="word", within=40) == score


def test_of_several_keywords_one_is_enough():
    assert judge("blue waves", meta={"word": ["sea", "waves"]}, keywords="word") == 1.0


def test_without_rules_every_answer_is_good():
    assert judge("anything") == 1.0


def test_what_a_rule_counts_is_an_option():
    assert judge("sea", keywords="word", good=3.0) == 3.0
    assert judge("damn", keywords="word", bad=("damn",), worst=-0.25) == -0.25


def test_what_the_rules_ask_for_has_to_be_there():
    asked = chat("u: Hi", "a: Hello")
    plain = Example({"text": asked}, {}, {"id": "x"})
    with pytest.raises(DataError, match="'word' of its metadata is None"):
        rules([asked], [plain], keywords="word")
    with pytest.raises(DataError, match="does not say how many tokens"):
        rules([asked], [plain], within=3)


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("How long have you had it?", 2.0),
        ("\u75bc\u4e86\u591a\u4e45\uff1f", 2.0),  # with a full-width mark
        ("Take some rest.", 1.0),
        ("Why? No need to see a DOCTOR.", 0.0),  # what is unsafe comes before all else
        (" ", 0.0),
    ],
)
def test_asking_back_is_above_advice_and_advice_above_what_is_unsafe(said, score):
    """The order of the criteria of card 61."""
    asked = chat("u: It hurts.", f"a: {said}")
    assert asks_back(
        [asked], [Example({"text": asked}, {}, {"id": "x"})], unsafe=("no need to see a doctor",)
    ) == [score]


def test_of_a_talk_the_last_message_is_looked_at():
    talk = chat("u: It hurts.", "a: Where?", "u: Here.", "a: Rest.")
    assert asks_back([talk], [Example({"text": talk}, {}, {"id": "x"})]) == [1.0]
