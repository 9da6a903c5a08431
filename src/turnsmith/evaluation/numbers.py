"""The number that an answer comes to, found by rules and compared exactly."""

from __future__ import annotations

import re
from fractions import Fraction

DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
NUMBER = re.compile(rf"(?<![\w.,)])[-\u2212]?[$\u20ac\u00a3\u00a5]?[-\u2212]?(?:{DIGITS}(?:\.\d+)?|\.\d+)"
                    rf"|{DIGITS}(?:\.\d+)?|\.\d+")  # fmt: skip
DIVIDED = re.compile(r"\s?/\s?(\d+)(?![\d.,]*\d)")
FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?[\d.,]+)\s*\}\s*\{\s*(-?[\d.,]+)\s*\}")
BOXED = r"\boxed{"
MARK = "####"


def answer(text: str) -> Fraction | None:
    """The number that `text` gives as its answer, or None where it gives none.

    It is the first number behind the last `####`; where there is no such mark, the last number inside the
    last `\\boxed{}`; where there is none of these either, the last number of the text. Behind a mark or in a
    box that holds no number there is no answer. Numbers may have a sign, a currency, commas between groups of
    three, decimals, or be a fraction; what is equal as a number is equal: 1,000.50 and $1000.5, 1/2 and 0.5.

    >>> answer("He pays 3 times 4, so #### $1,012.50 in all 9 weeks"), answer("No idea.")
    (Fraction(2025, 2), None)
    """
    if MARK in text:
        return next(iter(numbers(text.rpartition(MARK)[2])), None)
    if BOXED in text:
        return next(reversed(numbers(_inside(text.rpartition(BOXED)[2]))), None)
    return next(reversed(numbers(text)), None)


def numbers(text: str) -> list[Fraction]:
    """All numbers of a text, in order.

    >>> numbers("5-3, -2.50, 1/4 or \\\\frac{3}{4}, 12,000 people") == [5, 3, -2.5, 0.25, 0.75, 12000]
    True
    """
    plain = FRACTION.sub(lambda found: f"{found[1]}/{found[2]}", text.replace("{,}", ","))
    found: list[Fraction] = []
    at = 0
    while match := NUMBER.search(plain, at):
        at = match.end()
        value = Fraction(re.sub(r"[^\d.-]", "", match[0].replace("\u2212", "-")))
        divided = DIVIDED.match(plain, at)
        if divided and int(divided[1]):
            value, at = value / int(divided[1]), divided.end()
        found.append(value)
    return found


def _inside(text: str) -> str:
    """What stands before the brace that closes one which was opened before the text."""
    depth = 1
    for place, letter in enumerate(text):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth == 0:
            return text[:place]
    return text
