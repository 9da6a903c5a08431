"""Which language a text is in, by the model that comes inside py3langid (97 languages)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

LETTERS = 20  # characters that a guess needs at least
READ = 500  # characters of a text that are looked at
SHORT = "too short to tell"


def languages(texts: Iterable[str]) -> Counter[str]:
    """How many of the texts are in each language, by ISO 639-1 code. Short ones are counted as such."""
    from py3langid import classify

    found: Counter[str] = Counter()
    for text in texts:
        start = " ".join(text[: 2 * READ].split())[:READ]
        found[classify(start)[0] if len(start) >= LETTERS else SHORT] += 1
    return found
