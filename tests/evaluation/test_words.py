"""Sentences and words in capital letters, counted by hand."""

import pytest

from turnsmith.evaluation.words import capital_words, sentences


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("One", 1),
        ("One. Two! Three? Four", 4),
        ("What?! No.", 2),
        ('He said "no." Then he left.', 2),
        ("It is 3.5 feet. Or 4.", 2),
        ("Dr. Low met Mr. Smith vs. the U.S. army.", 1),
        ("J. R. Low wrote it.", 1),
        ("Well... maybe. Well... Yes.", 3),
        ("1. Go on\n2. Stop", 3),  # a number with a full stop ends a sentence, unless a small letter follows
        ("He came 1. in the race.", 1),
        ("A line\nthat goes on.", 1),
        ("**Bold.** Next.", 2),
        ("See example.com for more.", 1),
    ],
)
def test_sentences(text, count):
    assert sentences(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("I am HERE", 2),
        ("TOP-NOTCH and A1 but not 12", 2),
        ("DON'T", 2),  # DO and N'T
        ("IT'S OK.", 3),  # IT, 'S and OK
        ('(YES), NO; MAYBE: "SO"!', 4),
        ("Hello World", 0),
        ("*BOLD*", 1),
    ],
)
def test_words_in_capital_letters(text, count):
    assert capital_words(text) == count
