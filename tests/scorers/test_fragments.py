"""What is said so far, beside what would have been right."""

from math import log

import pytest

from turnsmith.errors import DataError
from turnsmith.scorers.fragments import GRADES, SelfGraded, grade, pieces_right
from turnsmith.testing import SCORER, chat
from turnsmith.types import Example

ASKED = "u: Book a room"
TRUTH = Example({"text": chat(ASKED, "a: [f(a=1, b=2)]")}, {}, {"id": "x"})


def right(said):
    return pieces_right([chat(ASKED, f"a: {said}")], [TRUTH])[0]


def test_a_beginning_of_the_right_answer_is_worth_1_and_nothing_of_it_minus_1():
    assert right("[f(a=1, b=2)]") == 1
    assert right("[f(a=") == 1
    assert right("[f(a") == 1  # it ends in the middle of a piece
    assert right("I cannot") == -1
    assert right("") is None


def test_a_wrong_value_counts_as_its_share():
    assert right("[f(a=3, b=") == pytest.approx(2 * 3 / 4 - 1)  # [f( | a= | 3, | b=
    assert right("[f(a=1, b=2)] and") == pytest.approx(2 * 4 / 5 - 1)  # more than the right answer
    assert right("[f(a=1, b=2)], x") == pytest.approx(2 * 4 / 6 - 1)


def test_who_has_no_right_answer_is_refused():
    with pytest.raises(DataError, match="example 'y' does not end on the assistant's right answer"):
        pieces_right([chat(ASKED, "a: x")], [Example({"text": chat(ASKED)}, {}, {"id": "y"})])


def test_grades_are_weighed_by_how_likely_their_letters_are():
    assert list(GRADES) == ["A", "B", "C", "D"]
    scores = [log(one) for one in (0.4, 0.3, 0.2, 0.1)]
    assert grade(scores) == pytest.approx((0.4 * 1 + 0.3 * 0.1 - 0.2 * 1 - 0.1 * 2) / 4)
    assert grade([one - 50 for one in scores]) == pytest.approx(grade(scores))
    assert grade([None, 0.0, 0.0, 0.0]) is None


@pytest.mark.parametrize("check", SCORER, ids=lambda check: check.__name__)
def test_contract(check, place, home):
    said = [chat(ASKED, f"a: [f(a={value}") for value in (1, 2, 3)]
    examples = [Example(TRUTH.parts, {}, {"id": f"e{at}"}) for at in range(3)]
    check(SelfGraded(by=str(place)), said, examples)
