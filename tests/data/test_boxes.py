"""Boxes as text and against each other, by hand."""

import math

import pytest

from turnsmith.data.boxes import average_precision, mean_overlap, overlap, read, say

LEFT, RIGHT, LOW = (0.0, 0.0, 0.25, 0.5), (0.5, 0.0, 0.75, 0.5), (0.0, 0.5, 0.25, 1.0)
TRUE = [LEFT, RIGHT, LOW]


def moved(box, by):
    return (box[0] + by, box[1], box[2] + by, box[3])


def test_what_is_written_is_read_back_rounded():
    boxes = [(0.123, 0.456, 0.789, 1.0), (0.0, 0.005001, 0.5, 0.999)]
    assert read(say(boxes)) == [(0.12, 0.46, 0.79, 1.0), (0.0, 0.01, 0.5, 1.0)]
    assert say(boxes).count(" and ") == 1
    assert say(TRUE).count(" and ") == 1
    assert say(TRUE[:1]).count(" and ") == 0


def test_only_four_numbers_in_brackets_are_a_box():
    text = "a square at [0.1, .2, 1, 0.5]; [0.1, 0.2, 0.3], [1, 2, 3, 4, 5] and [a, 0, 0, 0]"
    assert read(text) == [(0.1, 0.2, 1.0, 0.5)]


def test_copies_of_the_truth_are_whole_in_any_order():
    assert average_precision(TRUE, TRUE) == 1
    assert average_precision(TRUE[::-1], TRUE) == 1
    assert mean_overlap(TRUE[::-1], TRUE) == 1


def test_boxes_shifted_by_more_than_their_width_are_nothing():
    shifted = [moved(box, 0.26) for box in TRUE]  # a quarter wide
    assert all(overlap(one, other) == 0 for one, other in zip(shifted, TRUE, strict=True))
    assert average_precision([moved(LEFT, 0.26)], [LEFT]) == 0
    assert mean_overlap([moved(LEFT, 0.26)], [LEFT]) == 0


def test_nothing_said_or_nothing_there_is_0():
    for said, true in (([], TRUE), (TRUE, []), ([], [])):
        assert average_precision(said, true) == 0
        assert mean_overlap(said, true) == 0


def test_boxes_without_an_area_overlap_by_0_and_not_by_nan():
    flat = (0.5, 0.5, 0.5, 0.5)
    assert overlap(flat, flat) == 0
    assert overlap((0.7, 0.7, 0.2, 0.2), (0.2, 0.2, 0.7, 0.7)) == 0  # its sides turned round
    assert not math.isnan(average_precision([flat], [flat]))


def test_precision_is_the_highest_at_a_recall_or_a_higher_one():
    """Right, wrong, right of three: precision 1, 1/2, 2/3; AP = (1 + 2/3) / 3."""
    wrong = (0.9, 0.9, 1.0, 1.0)
    assert average_precision([LEFT, wrong, RIGHT], TRUE) == pytest.approx(5 / 9)
    # Wrong, right, right: 0, 1/2, 2/3, so that the envelope at the first hit is 2/3.
    assert average_precision([wrong, LEFT, RIGHT], TRUE) == pytest.approx(4 / 9)


def test_a_true_box_is_found_once():
    assert average_precision([LEFT, LEFT], [LEFT]) == 1  # the envelope ends at the last hit
    assert average_precision([LEFT, LEFT, RIGHT], [LEFT, RIGHT]) == pytest.approx((1 + 2 / 3) / 2)


def test_a_box_is_right_from_half_of_the_union_on():
    """Shifted by a third of the width, both share 2/3 of 1 and have 4/3 together: 1/2."""
    wide, shifted = (0.0, 0.0, 0.75, 1.0), (0.25, 0.0, 1.0, 1.0)
    assert overlap(wide, shifted) == 0.5
    assert average_precision([shifted], [wide]) == 1
    assert average_precision([shifted], [wide], least=0.51) == 0


def test_the_overlap_of_all_counts_what_is_missing_or_too_many():
    assert mean_overlap([LEFT], TRUE) == pytest.approx(1 / 3)
    assert mean_overlap([*TRUE, (0.9, 0.9, 1.0, 1.0)], TRUE) == pytest.approx(3 / 4)
    assert mean_overlap([LEFT, LEFT], [LEFT]) == 0.5  # not the mean of all pairs, which is 1
