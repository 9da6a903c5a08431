"""A linear model of offensive language, by hand and as it comes in its package."""

from math import exp, sqrt

import numpy as np
import pytest

from turnsmith.scorers import profanity as module
from turnsmith.scorers.profanity import Linear, linear, profanity
from turnsmith.testing import SCORER, chat, conversations

# Two words, two models; the second one's probability falls with its margin.
TOY = Linear(
    places={"bad": 0, "cat": 1},
    rarity=np.array([2.0, 1.0]),
    weights=np.array([[1.0, -1.0], [0.5, 0.0]]),
    bias=np.array([0.0, 0.25]),
    slope=np.array([-1.0, 1.0]),
    shift=np.array([0.0, 0.5]),
)


def test_words_are_weighed_by_number_and_rarity_at_length_1():
    # bad twice: 2 * 2, cat once: 1; the length is sqrt(17).
    bad, cat = 4 / sqrt(17), 1 / sqrt(17)
    first = 1 / (1 + exp(-(bad - cat)))
    second = 1 / (1 + exp(0.5 * bad + 0.25 + 0.5))
    assert TOY("Bad CAT, a bad dog!") == pytest.approx((first + second) / 2)


def test_what_is_not_known_says_nothing():
    nothing = (0.5 + 1 / (1 + exp(0.75))) / 2
    assert TOY("") == TOY("a dog") == pytest.approx(nothing)


def test_the_last_message_is_judged(monkeypatch):
    monkeypatch.setattr(module, "linear", lambda: TOY)
    asked = [chat("u: bad", "a: cat"), chat("u: cat"), chat()]
    assert profanity(asked, conversations(3)) == [TOY("cat"), TOY("cat"), TOY("")]


@pytest.mark.parametrize("check", SCORER, ids=lambda check: check.__name__)
def test_contract(check, monkeypatch):
    monkeypatch.setattr(module, "linear", lambda: TOY)
    examples = conversations(3)
    check(profanity, [one.parts["text"] for one in examples], examples)


@pytest.mark.slow
def test_the_model_in_the_package_says_what_its_own_code_says():
    """Figures of alt-profanity-check 1.9.1 itself, under scikit-learn 1.9.1."""
    judge = linear()
    texts = {
        "you are a stupid idiot": 0.9999999926672976,
        "have a nice day": 0.05844726394294451,
        "": 0.036375752016469504,
        "Hello there, hello": 0.02432774335051725,
    }
    for text, share in texts.items():
        assert judge(text) == pytest.approx(share, rel=1e-9)
