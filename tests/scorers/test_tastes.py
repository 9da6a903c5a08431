"""What a recommendation is worth, and what was asked before it."""

from __future__ import annotations

import pytest

from turnsmith.errors import DataError
from turnsmith.scorers.tastes import inquires, likes, profile, suits
from turnsmith.testing import chat
from turnsmith.types import Example

BEACH = Example({}, {}, {"id": "one", "profile": "sea yes, hot no, fun yes"})


@pytest.mark.parametrize(
    ("said", "suit", "asked"),
    [
        (["u: hi", "a: go yny"], 1.0, 0),
        (["u: hi", "a: go ynn"], 0.0, 0),
        (["u: hi", "a: sea?", "u: yes", "a: hot?", "u: no", "a: sea?", "u: yes", "a: go yny"], 1.0, 2),
        (["u: hi", "a: sea? hot? fun?", "u: yes"], 0.0, 3),
        (["u: hi", "a: go nnn", "u: bye", "a: sea?", "u: yes", "a: go yny"], 0.0, 0),  # the first one counts
        (["u: go yny"], 0.0, 0),  # a customer recommends nothing
    ],
)
def test_the_first_recommendation_counts_and_what_was_asked_before_it(
    said: list[str], suit: float, asked: int
) -> None:
    assert suits([chat(*said)], [BEACH]) == [suit]
    assert inquires([chat(*said)], [BEACH]) == [asked]


def test_a_profile_says_what_it_was_made_of() -> None:
    assert profile((True, False, True)) == BEACH.meta["profile"]
    assert likes(f"You are a customer.\n\n{BEACH.meta['profile']}") == {
        "sea": True,
        "hot": False,
        "fun": True,
    }
    assert likes("sea yes, hot no") is None


def test_an_example_without_a_profile_is_an_error_that_names_it() -> None:
    with pytest.raises(DataError, match="example 'two' has no `profile` in its metadata, such as 'sea yes"):
        suits([chat("u: hi", "a: go yny")], [Example({}, {}, {"id": "two"})])
