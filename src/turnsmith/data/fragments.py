"""Fragments of what is said: where a text may go on in another way, and how alike two of them are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

from turnsmith.data.overlap import words

SEPARATOR = re.compile(r"\. |, |=|\(")  # ends of a sentence, an argument, its name, and the name of a call
CALL_ENDS = ")]"


def pieces(text: str) -> list[str]:
    """The text in pieces, each with the separator that ends it; together they are the text.

    >>> pieces("[f(a=1, b=2)]")
    ['[f(', 'a=', '1, ', 'b=', '2)]']
    """
    ends = [found.end() for found in SEPARATOR.finditer(text)]
    cuts = [0, *ends]
    cuts += [len(text)] if cuts[-1] < len(text) else []
    return [text[start:end] for start, end in pairwise(cuts)]


def cuts(spelled: Sequence[str], count: int, most: int) -> list[int]:
    """Behind which tokens a completion is cut into at most `most` actions of `count` pieces; the last one
    takes all that is left. A cut is behind the token in which a piece ends; pieces that end in one token are
    one.

    >>> cuts(["[f", "(a", "=", "1", ", ", "b=", "2)]"], 1, 3), cuts(["[f", "(a", "=", "1"], 2, 3)
    ([2, 3, 7], [3, 4])
    """
    ends = list(accumulate(map(len, spelled)))
    found: list[int] = []
    place = 0
    for piece in pieces("".join(spelled)):
        place += len(piece)
        at = next(number for number, end in enumerate(ends, 1) if end >= place)
        found += [at] if not found or found[-1] != at else []
    grouped = [at for number, at in enumerate(found, 1) if number % count == 0][: most - 1]
    return [*grouped, *([len(spelled)] if not grouped or grouped[-1] < len(spelled) else [])]


def overlap(one: str, other: str) -> float:
    """The words that two texts share, over the words of the one with fewer; 0 where one has none.

    >>> overlap("book a room", "a room for two"), overlap("", "a room")
    (0.6666666666666666, 0.0)
    """
    left, right = set(words(one)), set(words(other))
    return len(left & right) / min(len(left), len(right)) if left and right else 0.0


def likely(fragment: str, truth: str) -> float:
    """What a fragment seems worth at first sight beside what would be right: 0.1 where both or neither of the
    two end a call, -0.1 where one does, and how far they share more than half of the words. An empty one is
    worth 0.

    >>> round(likely("b=2)]", "[f(b=2)]"), 6), likely("", "[f(b=2)]")
    (0.6, 0.0)
    """
    if not fragment.strip():
        return 0.0
    agree = (CALL_ENDS in fragment) == (CALL_ENDS in truth)
    return (0.1 if agree else -0.1) + overlap(truth, fragment) - 0.5
