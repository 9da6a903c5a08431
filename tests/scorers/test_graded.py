"""Grades that a model is likely to say."""

from math import log

import pytest

from turnsmith.errors import UsageError
from turnsmith.scorers.graded import Graded, expected
from turnsmith.testing import SCORER, conversations

pytestmark = pytest.mark.usefixtures("home")


def test_equal_scores_give_the_middle_and_one_that_is_sure_its_grade():
    assert expected([5.0] * 3) == 2.0
    assert expected([-1e9, -1e9, 0.0]) == 3.0
    assert expected([log(1), log(2), log(1)]) == pytest.approx(2.0)
    assert expected([log(3), log(1), log(0.5)]) == pytest.approx((3 + 2 + 1.5) / 4.5)


def test_what_is_missing_is_not_judged():
    assert expected([0.0, None, 0.0]) is None


def test_less_than_two_grades_are_refused():
    with pytest.raises(UsageError, match="two or more"):
        Graded(by="x", grades=1)


@pytest.mark.parametrize("check", SCORER, ids=lambda check: check.__name__)
def test_it_keeps_to_the_contract(place, check):
    examples = conversations(3)
    check(Graded(by=str(place)), [one.parts["text"] for one in examples], examples)


def test_grades_lie_between_the_least_and_the_most(place):
    examples = conversations(3)
    found = Graded(by=str(place), grades=3)([one.parts["text"] for one in examples], examples)
    assert all(1 < one < 3 for one in found)
