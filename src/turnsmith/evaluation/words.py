"""Sentences and words of a text, counted as IFEval counts them, without the tokenizers that it needs."""

from __future__ import annotations

import re

# What ends on a full stop inside a sentence; single letters are known to do so too.
ABBREVIATIONS = {
    "mr", "mrs", "ms", "dr", "prof", "rev", "hon", "gen", "col", "capt", "lt", "sgt", "sen", "rep", "gov",
    "pres", "st", "mt", "ft", "jr", "sr", "inc", "ltd", "co", "corp", "bros", "dept", "univ", "assn",
    "est", "vs", "fig", "jan", "feb", "aug", "sept", "oct", "nov", "dec", "mon", "tue", "wed", "thu",
    "fri", "e.g", "i.e", "u.s", "u.k", "u.n", "a.m", "p.m", "ph.d", "d.c", "viz", "cf", "al", "ave",
    "blvd", "rd",
}  # fmt: skip
END = re.compile(r"""[.!?]+(?=\s|$|[)"';}\]*:@({\[\u201d\u2019])""")


def sentences(text: str) -> int:
    """How many sentences there are: each ends on `.`, `!` or `?` before a blank, a bracket, a quote or a
    mark.

    No sentence ends on an abbreviation, and none on a single letter, a number or dots before a small letter.
    What is left at the end counts as one. A line that ends without a mark goes on in the next.

    >>> sentences("Dr. Low left. Why? See 3.5 below"), sentences("Well... no. 1. Go on")
    (3, 3)
    """
    count, start = 0, 0
    for end in END.finditer(text):
        if _ends(text, end):
            count += bool(re.search(r"\w", text[start : end.start()]))
            start = end.end()
    return count + bool(re.search(r"\w", text[start:]))


def _ends(text: str, end: re.Match[str]) -> bool:
    """Whether a sentence ends on these marks."""
    if set(end[0]) != {"."}:
        return True
    word = text[: end.start()].rsplit(maxsplit=1)[-1:]
    word = "".join(word).lower().lstrip("(\"'*[\u201c\u2018")
    following = text[end.end() :].lstrip(" \t\n\r)\"'*]}\u201d\u2019")
    if not following:
        return True
    if len(end[0]) > 1 or word.isdecimal():
        return not following[0].islower()
    return word not in ABBREVIATIONS and not (len(word) == 1 and word.isalpha())


APART = re.compile(
    r"""[\s"\u201c\u201d\u00ab\u00bb\u2018\u2019`,;:@#$%&?!()\[\]{}<>]+|--+|\.{2,}|'(?=\W|$)|(?<!\S)'"""
)
CLIPPED = re.compile(r"(?i)(?<=\w)(n't|'(?:s|m|d|ll|re|ve))$")


def capital_words(text: str) -> int:
    """How many words have capital letters only, as a treebank tokenizer finds words: marks are apart, hyphens
    and figures are not, and a short form such as `'RE` or `N'T` is a word of its own.

    >>> capital_words("A U.S. TOP-10 hit: WE'RE no. 1, OK?")
    6
    """
    count = 0
    for word in APART.split(text):
        clipped = CLIPPED.search(word or "")
        parts = [word[: clipped.start()], clipped[0]] if clipped else [word or ""]
        count += sum(part.isupper() for part in parts)
    return count
