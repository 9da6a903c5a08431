"""How much two texts have in common, counted in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The text's words in small letters; what stands between them is left out."""
    return WORD.findall(text.casefold())


def shared(one: str, other: str) -> float:
    """F1 of the words of two texts in any order; of two texts without words 1.

    >>> shared("the red cat", "The cat sat"), shared("yes", "no")
    (0.6666666666666666, 0.0)
    """
    left, right = Counter(words(one)), Counter(words(other))
    total = left.total() + right.total()
    return 2 * (left & right).total() / total if total else 1.0


def rouge_l(one: str, other: str) -> float:
    """ROUGE-L (Lin 2004, sec. 3.1): F1 of the longest sequence of words that both have in this order; of two
    texts without words 1.

    >>> rouge_l("the cat sat down", "the dog sat"), rouge_l("a b", "b a")
    (0.5714285714285714, 0.5)
    """
    left, right = words(one), words(other)
    total = len(left) + len(right)
    return 2 * _common(left, right) / total if total else 1.0


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    """The length of the longest common subsequence, in time of the product of both lengths."""
    best = [0] * (len(right) + 1)
    for word in left:
        before = 0  # of the row before, one place to the left
        for place, other in enumerate(right, 1):
            above = best[place]
            best[place] = before + 1 if word == other else max(above, best[place - 1])
            before = above
    return best[-1]
