"""Claims and like answers, by rules."""

from math import log

import pytest

from turnsmith.data.claims import entropy, plain, same, sentences, shares, stated


def test_a_text_is_taken_apart_at_its_marks_and_lines_and_not_at_titles_and_initials():
    text = "Dr. A. Ash lived in Rome. She sang!\n1. Born in 1947\n- Died: 3.5 years later?\n\n..."
    assert sentences(text) == [
        "Dr. A. Ash lived in Rome.",
        "She sang!",
        "Born in 1947",
        "Died: 3.5 years later?",
    ]
    assert sentences(" \n.") == []


@pytest.mark.parametrize(
    ("one", "other", "like"),
    [
        ("The Wellesley College", "wellesley college", True),
        ("1947", "in 1947", True),  # one is at the end of the other
        ("yes, often", "Yes.", True),
        ("no", "yes", False),
        ("'Rome, Italy'", "italy rome", True),  # the same words
        ("the car", "cars", True),
        ("well-known", "well known", True),
        ("the head of a school", "head of school", True),
        ("1947", "1948", False),
        ("1947", "in 1947 or later", False),  # at the end, not at the start
        ("bus", "omnibus", False),  # whole words
        ("", "Rome", False),
        ("the", "a", False),  # nothing is like nothing
    ],
)
def test_answers_are_alike_by_their_words(one, other, like):
    assert same(plain(one), plain(other)) is like
    assert same(plain(other), plain(one)) is like


def test_twenty_answers_that_agree_are_certain_and_twenty_that_differ_are_not():
    agreed, _ = shares(["Rome"] * 20)
    assert agreed == [1.0]
    assert sum(one**2 for one in agreed) == 1
    assert entropy(agreed) == 0
    apart, _ = shares([f"{number}x" for number in range(20)])
    assert max(apart) == 1 / 20
    assert sum(one**2 for one in apart) == pytest.approx(0.05)  # 20 * 0.05 ** 2
    assert entropy(apart) == pytest.approx(log(20))


def test_an_answer_joins_the_first_class_that_it_is_like():
    """`x a` is like both keys, `a` and `x`? It ends on the first alone; what is missing counts for nobody."""
    found, like = shares(["a1", "x a1", "b1", "", "?!", "the a1"], "in a1")
    assert found == [0.75, 0.25]  # of four that say something
    assert sum(found) == 1
    assert like == 0.5  # `in a1` ends on `a1`, twice, and is not like `x a1`


def test_where_nobody_says_anything_there_is_no_class():
    assert shares(["", "..."], "Rome") == ([], 0.0)
    assert shares([]) == ([], 0.0)


def test_a_claim_is_stated_by_one_sentence_and_not_by_two_together():
    source = "Ada Ash was born in May in Rome. Ben Elm keeps a cat."
    assert stated("Ada Ash was born in Rome", source)
    assert not stated("Ada Ash keeps a cat.", source)
    assert not stated("...", source)
