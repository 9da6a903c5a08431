"""Which number a text comes to."""

from fractions import Fraction

import pytest

from turnsmith.evaluation.numbers import answer, numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He has 3 apples and eats 1, so #### 2", 2),
        ("#### 7 at first. No: #### 8 apples of 9", 8),  # the first number behind the last mark
        ("The 12 pay $1,234.50.", Fraction(2469, 2)),
        ("It costs -$5.", -5),
        ("It is \u22125 degrees", -5),
        (r"so \boxed{\frac{3}{4}} of 8", Fraction(3, 4)),
        (r"\boxed{1} or rather \boxed{x = 42} out of 50", 42),
        (r"\boxed{\text{about } 2{,}000}", 2000),  # so LaTeX writes a comma
        ("- 5 apples", 5),  # a list, no sign
        (r"\boxed{7} #### 9", 9),  # the mark goes before the box
        ("half, that is 1/2", Fraction(1, 2)),
        ("that is 0.50", Fraction(1, 2)),
        ("42.", 42),
        ("18.00 dollars", 18),
        ("about .5 l", Fraction(1, 2)),
        ("10-3 = 7", 7),
        ("1, 2, 3", 3),
        ("1,000,000", 1_000_000),
        ("1,00", 0),  # no groups of three: two numbers
        ("7%", 7),
        ("1/0", 0),  # no fraction: two numbers
        ("I do not know.", None),
        ("", None),
        ("#### none of the 3", 3),
        ("There are 3. #### unknown", None),
        (r"There are 3. \boxed{x}", None),
    ],
)
def test_the_number_that_a_text_comes_to(text, expected):
    assert answer(text) == expected


def test_a_difference_is_two_numbers_and_a_sign_belongs_to_its_number():
    assert numbers("5-3 and -3, (-4)") == [5, 3, -3, -4]


def test_a_number_inside_a_word_counts():
    assert numbers("room B12, 3rd floor") == [12, 3]
