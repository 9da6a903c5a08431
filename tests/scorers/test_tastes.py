"""What a recommendation is worth, and what was asked before it."""

from __future__ import annotations

import pytest

from turnsmith.errors import DataError
from turnsmith.scorers.tastes import inquires, likes, suits
from turnsmith.testing import chat
from turnsmith.types import Example

BEACH = Example({}, {}, {"id": "one", "profile": "Sea, Dry, Fun"})


@pytest.mark.parametrize(
    ("said", "suit", "asked"),
    [
        (["u: hi", "a: go SDF"], 1.0, 0),
        (["u: hi", "a: go SDA"], 0.0, 0),
        (["u: hi", "a: sea?", "u: Sea", "a: hot?", "u: Dry", "a: sea?", "u: Sea", "a: go SDF"], 1.0, 2),
        (["u: hi", "a: sea? hot? fun?", "u: Sea"], 0.0, 3),
        (["u: hi", "a: go IDA", "u: bye", "a: sea?", "u: Sea", "a: go SDF"], 0.0, 0),  # the first one counts
        (["u: go SDF"], 0.0, 0),  # a traveller recommends nothing
    ],
)
def test_the_first_recommendation_counts_and_what_was_asked_before_it(
    said: list[str], suit: float, asked: int
) -> None:
    assert suits([chat(*said)], [BEACH]) == [suit]
    assert inquires([chat(*said)], [BEACH]) == [asked]


def test_a_profile_says_what_a_traveller_likes() -> None:
    told = likes(f"You are a traveller.\n\n{BEACH.meta['profile']}")
    assert told == {"sea?": "Sea", "hot?": "Dry", "fun?": "Fun"}
    assert likes("Sea, Dry") is None


def test_an_example_without_a_profile_is_an_error_that_names_it() -> None:
    with pytest.raises(
        DataError, match="example 'two' has no `profile` in its metadata, such as 'Ice, Hot, Fun'"
    ):
        suits([chat("u: hi", "a: go SDF")], [Example({}, {}, {"id": "two"})])
