"""Judging answers by plain rules, so that what is best is known."""

from __future__ import annotations

import re
from collections.abc import Sequence

from turnsmith.errors import DataError
from turnsmith.registry import scorer
from turnsmith.types import Conversation, Example, Json, Score, is_list


@scorer("rules")
def rules(
    conversations: Sequence[Conversation],
    examples: Sequence[Example],
    *,
    keywords: str | None = None,
    within: int | None = None,
    good: float = 1.0,
    bad: tuple[str, ...] = (),
    worst: float = -1.0,
) -> list[Score]:
    """What the last message of each conversation gets: `good` if it is on topic and ends soon, and `worst` on
    top if a bad word is in it.

    keywords: the key of the metadata under which a word stands, or several, of which one has to be in the
    answer; None: every answer is on topic. within: tokens after which it has to have ended; it is read off
    the values `tokens` and `cut`, which the stage `answers` gives, and one that was cut has not ended. bad:
    words that must not be there. Words count as wholes, in any case. An answer that says nothing gets
    `worst`. Raises DataError where an example has no such keywords or values.
    """
    return [
        _judged(_said(conversation), example, keywords, within, good, bad, worst)
        for conversation, example in zip(conversations, examples, strict=True)
    ]


@scorer("asks_back", source="arXiv:2308.03549, criteria in their order")
def asks_back(
    conversations: Sequence[Conversation], examples: Sequence[Example], *, unsafe: tuple[str, ...] = ()
) -> list[Score]:
    """2 where the last message of a conversation asks something, as who misses something to give advice does;
    1 where it tells something; 0 where it says nothing, or something unsafe, whatever else.

    It asks where it has a question mark, a full-width one too. unsafe: phrases that are looked for anywhere,
    in any case, which needs no spaces between words.
    """
    return [_asks(_said(conversation).casefold(), unsafe) for conversation in conversations]


def _asks(text: str, unsafe: Sequence[str]) -> float:
    if not text.strip() or any(phrase.casefold() in text for phrase in unsafe):
        return 0.0
    return 2.0 if "?" in text or "\uff1f" in text else 1.0


def _judged(
    text: str,
    example: Example,
    keywords: str | None,
    within: int | None,
    good: float,
    bad: Sequence[str],
    worst: float,
) -> float:
    if not text.strip():
        return worst
    right = (keywords is None or _has(text, _keywords(example, keywords))) and _ended(example, within)
    return good * right + worst * _has(text, bad)


def _said(conversation: Conversation) -> str:
    return conversation.messages[-1].content if conversation.messages else ""


def _has(text: str, words: Sequence[str]) -> bool:
    """Whether one of the words is in the text.

    >>> _has("All cats!", ["cats", "dogs"]), _has("scatter", ["cat"]), _has("", [])
    (True, False, False)
    """
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in words)


def _keywords(example: Example, key: str) -> list[str]:
    found: Json = example.meta.get(key)
    words = [found] if isinstance(found, str) else list(found) if is_list(found) else []
    if not words or not all(isinstance(word, str) for word in words):
        raise DataError(
            f"example {example.id!r}: {key!r} of its metadata is {found!r}: a word or a list of words is "
            "needed"
        )
    return [str(word) for word in words]


def _ended(example: Example, within: int | None) -> bool:
    if within is None:
        return True
    tokens, cut = (example.values.get(name) for name in ("tokens", "cut"))
    if not isinstance(tokens, int | float) or not isinstance(cut, int | float):
        raise DataError(
            f"example {example.id!r} does not say how many tokens its answer has and whether it was cut: the "
            "stage `answers` and the task `rewarded` do"
        )
    return not cut and tokens <= within
