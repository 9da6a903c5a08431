"""What an answer claims, and which short answers say the same: by rules on their words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import log

from turnsmith.data.overlap import words

# After a mark and before a blank, but for that of a title, of an initial, and of a number that starts a line.
BETWEEN = re.compile(r"(?<!\bDr\.)(?<!\bMr\.)(?<!\bMs\.)(?<!\bSt\.)(?<!\bMrs\.)(?<!\b\w\.)(?<=[.!?])\s+|\n+")
BULLET = re.compile(r"\s*(?:[-*\u2022]|\d+[.)])\s+")
ARTICLES = {"a", "an", "the"}
BARE = {"yes", "no"}


def sentences(text: str) -> list[str]:
    """The sentences of a text, and its lines without the marks of a list: one claim each, where nobody who
    reads has taken them apart. What has no word is none.

    >>> sentences("Ada A. Ash lived in Rome. She sang!\\n- She died in 1947.")
    ['Ada A. Ash lived in Rome.', 'She sang!', 'She died in 1947.']
    """
    found = (
        BULLET.sub("", one, count=1).strip() for line in text.splitlines() for one in BETWEEN.split(line)
    )
    return [one for one in found if words(one)]


def stated(claim: str, source: str) -> bool:
    """Whether one sentence of the source has all words of the claim.

    >>> stated("She was born in Rome.", "She was born in May in Rome. He was not.")
    True
    """
    own = set(words(claim))
    return bool(own) and any(own <= set(words(one)) for one in sentences(source))


def plain(text: str) -> list[str]:
    """The words of a short answer that count: in small letters, without articles and marks; hyphens part
    words. Of what starts with yes or no that word alone.

    >>> plain("The Wellesley College"), plain("Yes, often.")
    (['wellesley', 'college'], ['yes'])
    """
    found = words(text)
    if found[:1] and found[0] in BARE:
        return found[:1]
    return [word for word in found if word not in ARTICLES]


def same(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two short answers, as `plain` gives them, are one: the same words in any order, one at the end
    of the other (`1947`, `in 1947`), or but for an `s` at the end. What has no word is like nothing.

    >>> same(["in", "1947"], ["1947"]), same(["car"], ["cars"]), same(["1947"], ["1948"])
    (True, True, False)
    """
    if not one or not other:
        return False
    short, long = sorted((list(one), list(other)), key=len)
    ends = long[-len(short) :] == short
    left, right = " ".join(one), " ".join(other)
    return ends or set(one) == set(other) or left + "s" == right or right + "s" == left


def shares(texts: Sequence[str], own: str | None = None) -> tuple[list[float], float]:
    """The shares of the answers in each class of like ones, and that of those that are like `own`.

    A class is known by its first answer, and an answer joins the first class that it is like. What has no
    word is left out; where nothing is left there is no class.
    """
    known = [one for text in texts if (one := plain(text))]
    keys: list[list[str]] = []
    counts: list[int] = []
    for one in known:
        place = next((at for at, key in enumerate(keys) if same(key, one)), len(keys))
        if place == len(keys):
            keys.append(one)
            counts.append(0)
        counts[place] += 1
    mine = plain(own) if own is not None else []
    like = sum(same(mine, one) for one in known) / max(len(known), 1)
    return [count / len(known) for count in counts], like


def entropy(shares: Sequence[float]) -> float:
    """In nats.

    >>> entropy([1.0]), entropy([0.5, 0.5])
    (0.0, 0.6931471805599453)
    """
    return sum((-share * log(share) for share in shares if share < 1), 0.0)
