"""Which language a text is in, by the model that comes inside py3langid (97 languages)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

LETTERS = 20  # characters that a guess needs at least
READ = 500  # characters of a text that are looked at
SHORT = "too short to tell"


def languages(texts: Iterable[str]) -> Counter[str]:
    """How many of the texts are in each language, by ISO 639-1 code. Short ones are counted as such."""
    return Counter(language(text) if len(_start(text)) >= LETTERS else SHORT for text in texts)


def language(text: str) -> str:
    """The language that the start of a text is most likely in, by ISO 639-1 code, however short it is."""
    from py3langid import classify

    return str(classify(_start(text))[0])


def _start(text: str) -> str:
    return " ".join(text[: 2 * READ].split())[:READ]
