"""Answers in fragments."""

import pytest

from turnsmith.data.fragments import cuts, likely, overlap, pieces


@pytest.mark.parametrize("text", ["f(a=1, b=2)", "No. I cannot, sorry.", "", "x", "((", "[f(a='b, c')]. "])
def test_pieces_together_are_the_text(text):
    assert "".join(pieces(text)) == text


def test_a_call_is_parted_at_its_bracket_its_arguments_and_their_names():
    assert pieces("f(a=1, b=2)") == ["f(", "a=", "1, ", "b=", "2)"]


def test_a_cut_is_behind_the_token_in_which_a_piece_ends():
    """Pieces: f( | a= | 1, | b= | 2). The blank of `, ` is in the token ` b`, so the third ends there."""
    spelled = ["f(", "a", "=", "1", ",", " b", "=", "2)"]
    assert cuts(spelled, 1, 9) == [1, 3, 6, 7, 8]
    assert cuts(spelled, 2, 9) == [3, 7, 8]  # two pieces make an action
    assert cuts(spelled, 2, 2) == [3, 8]  # the last action takes the rest
    assert cuts(spelled, 1, 1) == [8]


def test_pieces_that_end_in_one_token_are_one():
    assert cuts(["f(a=", "1)"], 1, 9) == [1, 2]


def test_overlap_is_over_the_fewer_words_and_nothing_is_like_an_empty_text():
    assert overlap("book a room", "book a room for two") == 1.0
    assert overlap("a b c", "c d") == 0.5
    assert overlap("", "a") == overlap("=(", "a") == 0.0


def test_what_ends_a_call_where_one_is_due_seems_right_and_what_does_not_seems_wrong():
    truth = "[f(a=1)]"  # words f, a and 1
    assert likely("a=1)]", truth) == pytest.approx(0.1 + 1 - 0.5)
    assert likely("a=2, ", truth) == pytest.approx(-0.1 + 0.5 - 0.5)
    assert likely(" ", truth) == 0.0


def test_where_nothing_is_to_be_called_not_to_call_seems_right():
    truth = "I have no tool."
    assert likely("I have ", truth) == pytest.approx(0.1 + 1 - 0.5)
    assert likely("[f()]", truth) == pytest.approx(-0.1 + 0 - 0.5)
