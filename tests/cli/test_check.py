"""What `turnsmith check` shows of the loss mask where there are no colours."""

import pytest

from turnsmith.cli.check import _bracketed


def tokens(*pairs):
    return [{"text": text, "weight": weight} for text, weight in pairs]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (tokens(("Hi", 0.0), (" there", 0.0)), "Hi there"),
        (tokens(("Hi", 0.0), (" you", 1.0), ("!", 1.0), ("\n", 0.0)), "Hi⟪ you!⟫↵\n"),
        (tokens(("a", 1.0), ("b", 0.5), ("c", 0.5)), "⟪a⟫⟪0.5: bc⟫"),
    ],
)
def test_what_learns_stands_between_brackets(given, expected):
    assert _bracketed(given) == expected
