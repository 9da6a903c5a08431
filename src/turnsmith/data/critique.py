"""What a critic says of a reply: a rating from 1 to 4, a critique, and advice for the next try."""

from __future__ import annotations

import re
from typing import NamedTuple

from turnsmith.errors import DataError
from turnsmith.types import Json

BEST = 4  # ratings go from 1 to it
# The request that a critic is sent behind the reply, as the last message of a user.
REQUEST = (
    "Judge your last reply in three lines. Rating: a whole number from 1, useless, to 4, as good as it gets. "
    "Critique: what is good and what is bad about it. Advice: how to do better, as I would say it to you, "
    "without the better reply itself."
)
# Empty advice is what ends an interaction: nothing is left to be mended.
SAID = re.compile(r"\s*Rating:([^\n]*)\n\s*Critique:(.*?)(?:\n\s*Advice:(.*))?\Z", re.DOTALL | re.IGNORECASE)


class Critique(NamedTuple):
    """rating: 1 to 4. text: what is good and bad. advice: what to do better; empty where there is nothing."""

    rating: int
    text: str
    advice: str


def rating_of(given: Json, where: str) -> int:
    """A rating as data have it: 4, "4" or " 4 ". Raises DataError for what is no whole number from 1 to 4.

    >>> rating_of(" 4 ", "here")
    4
    """
    text = given.strip() if isinstance(given, str) else "" if isinstance(given, bool) else str(given)
    if text not in {str(number) for number in range(1, BEST + 1)}:
        raise DataError(f"{where}: the rating is {given!r}, and has to be a whole number from 1 to {BEST}")
    return int(text)


def critique_of(text: str) -> Critique:
    """What a critic said, taken apart. Raises DataError where it has not the form that was asked for.

    >>> critique_of("Rating: 3\\nCritique: Too long.\\nAdvice: Say it in one sentence.").rating
    3
    """
    found = SAID.match(text)
    if found is None:
        raise DataError(f"a critic said {text!r:.80}: lines `Rating:`, `Critique:` and `Advice:` are needed")
    rating, critique, advice = (one or "" for one in found.groups())
    return Critique(rating_of(rating, "a critic's words"), critique.strip(), advice.strip())


def written(one: Critique) -> str:
    """A critique in the form that `critique_of` reads."""
    return f"Rating: {one.rating}\nCritique: {one.text}\nAdvice: {one.advice}"
