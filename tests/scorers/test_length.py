"""Answers judged by their length."""

import pytest

from turnsmith.errors import DataError
from turnsmith.scorers.length import all_words, fewest_tokens
from turnsmith.testing import chat
from turnsmith.types import Example, Message

EXAMPLE = Example({"text": chat("u: Hi")}, {}, {"id": "x"})


def test_every_sampled_token_costs_1():
    said = [chat("u: Hi").then(Message("assistant", "Yes", ids=ids)) for ids in ((5, 6, 2), (2,))]
    assert fewest_tokens(said, [EXAMPLE, EXAMPLE]) == [-3.0, -1.0]


def test_what_was_not_sampled_is_an_error():
    with pytest.raises(DataError, match="example 'x': its last message has no sampled tokens"):
        fewest_tokens([chat("u: Hi", "a: Yes")], [EXAMPLE])


def test_all_words_are_counted_but_those_of_system_texts():
    said = [chat("s: Be kind.", "u: Hi there", "a: Yes, I am."), chat()]
    assert all_words(said, [EXAMPLE, EXAMPLE]) == [5.0, 0.0]
