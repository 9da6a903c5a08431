"""Words that two texts share, in any order and in the same one."""

import pytest

from turnsmith.data.overlap import rouge_l, shared


def test_the_words_that_two_texts_share():
    assert shared("the red cat", "The cat sat!") == pytest.approx(2 * 2 / 6)
    assert shared("a a", "a") == pytest.approx(2 * 1 / 3)
    assert shared("", "...") == 1.0
    assert shared("", "a") == 0.0


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("police killed the gunman", "police kill the gunman", 3),  # Lin's own example: 3 of 4 and 4
        ("police killed the gunman", "the gunman kill police", 2),
        ("a b c d e", "e d c b a", 1),
        ("a b a b", "b a b a", 3),
        ("a a", "a", 1),
        ("a", "b", 0),
    ],
)
def test_rouge_l_is_the_f1_of_the_longest_common_sequence(one, other, common):
    words = len(one.split()) + len(other.split())
    assert rouge_l(one, other) == rouge_l(other, one) == pytest.approx(2 * common / words)


def test_what_has_no_words_is_like_what_has_none():
    assert rouge_l("", "!") == 1.0
    assert rouge_l("a", "") == 0.0
