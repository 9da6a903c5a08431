"""Rules of known optimum."""

import pytest

from turnsmith.errors import DataError
from turnsmith.scorers.rules import rules
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
