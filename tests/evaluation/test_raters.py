"""Krippendorff's alpha, against the values that he gives for his own example."""

import pytest

from turnsmith.evaluation.raters import agreement

# Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, example C: four people, twelve units.
VALUES = {
    "ann": "1 2 3 3 2 1 4 1 2 - - -",
    "bob": "1 2 3 3 2 2 4 1 2 5 - 3",
    "cat": "- 3 3 3 2 3 4 2 2 5 1 -",
    "dan": "1 2 3 3 2 4 4 1 2 5 1 -",
}
JUDGED = [
    (str(unit), person, float(value))
    for person, row in VALUES.items()
    for unit, value in enumerate(row.split())
    if value != "-"
]


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("interval", 0.849)])
def test_alpha_is_that_of_the_source(level, alpha):
    found = agreement(JUDGED, level=level)
    assert found.alpha == pytest.approx(alpha, abs=5e-4)
    # The last unit has one judgement alone: 11 units, 41 - 1 judgements.
    assert (found.units, found.people, found.judgements) == (11, 4, 40)


def test_two_people_over_four_units_by_hand():
    judged = [(str(at), "ann", one) for at, one in enumerate([1, 1, 0, 0])]
    judged += [(str(at), "bob", one) for at, one in enumerate([1, 0, 0, 0])]
    found = agreement(judged, level="nominal")
    # D_o = 2 / 8: one unit of four differs. D_e = 2 * 3 * 5 / (8 * 7): three 1s and five 0s.
    assert found.alpha == pytest.approx(1 - (2 / 8) / (30 / 56), abs=1e-12)
    assert found.equal == 0.75


def test_a_second_word_of_one_person_takes_the_place_of_the_first():
    judged = [("a", "ann", 0), ("a", "ann", 1), ("a", "bob", 1), ("b", "ann", 0), ("b", "bob", 0)]
    assert agreement(judged, level="nominal").alpha == 1


def test_without_a_second_judge_or_a_second_value_there_is_no_alpha():
    alone = agreement([("a", "ann", 1), ("b", "bob", 0)], level="nominal")
    assert (alone.alpha, alone.equal, alone.units) == (None, None, 0)
    alike = agreement([("a", "ann", 1), ("a", "bob", 1)], level="nominal")
    assert (alike.alpha, alike.equal, alike.units) == (None, 1, 1)
