"""Made contexts and replies whose coherence is known: it is the share of a reply's words that the context
has. And what makes levels of replies smaller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from string import ascii_lowercase

from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Message

SAID = 2  # utterances of a context
HALVES = {3.0: 2, 2.0: 1, 1.0: 0}  # of a level's words, that the context has


@stage("overlap_levels")
def overlap_levels(
    data: Sequence[Example], *, count: int, replies: int = 3, words: int = 4, rng: Random
) -> Iterator[Example]:
    """Add `count` contexts with `replies` of each of three levels, as the format `levels` has them: of the
    words of a reply all, half and none are the context's.

    words: of an utterance and of a reply, an even number up to 12; they are letters. A context has two
    utterances. Raises UsageError for other numbers.
    """
    _refuse(words)
    yield from data
    for number in range(count):
        start, known, other = _context(words, rng)
        drawn = {
            level: [start.then(_reply(known, other, words * share // 2, words, rng)) for _ in range(replies)]
            for level, share in HALVES.items()
        }
        values = tuple(level for level, ones in drawn.items() for _ in ones)
        flat = tuple(one for ones in drawn.values() for one in ones)
        yield Example({"replies": flat}, {"level": values}, {"id": f"overlap-{number}"})


@stage("overlap_ratings")
def overlap_ratings(data: Sequence[Example], *, count: int, words: int = 4, rng: Random) -> Iterator[Example]:
    """Add `count` contexts with one reply and its `score`, as the format `judged` has them: 1 where none of
    its words is the context's, 5 where all are, and in between in proportion.

    words: of an utterance, as of `overlap_levels`; every second reply has half as many.
    """
    _refuse(words)
    yield from data
    for number in range(count):
        start, known, other = _context(words, rng)
        length = words // 2 if number % 2 else words
        shared = rng.randint(0, length)
        text = start.then(_reply(known, other, shared, length, rng))
        yield Example({"text": text}, {"score": 1 + 4 * shared / length}, {"id": f"overlap-{number}"})


@stage("thinned")
def thinned(
    data: Sequence[Example], *, most: int, part: str = "replies", by: str = "level", counts: Counter[str]
) -> Iterator[Example]:
    """Keep the first `most` conversations of `part` that have each number of the value `by`, with all values.

    What goes is counted. Raises DataError where an example has no such part of several conversations, or no
    number for each.
    """
    for example in data:
        ones, numbers = example.parts.get(part), example.values.get(by)
        if not isinstance(ones, tuple) or not isinstance(numbers, tuple) or len(ones) != len(numbers):
            raise DataError(
                f"example {example.id!r} has no part {part!r} of several conversations with a number {by!r} "
                "for each"
            )
        places = [at for at, one in enumerate(numbers) if numbers[:at].count(one) < most]
        counts["conversations left out"] += len(ones) - len(places)
        values = {
            name: tuple(value[at] for at in places) if isinstance(value, tuple) else value
            for name, value in example.values.items()
        }
        yield replace(example.replaced(**{part: tuple(ones[at] for at in places)}), values=values)


def _refuse(words: int) -> None:
    if words % 2 or not 2 <= words <= 12:
        raise UsageError(f"words is {words}, and has to be an even number from 2 to 12")


def _context(words: int, rng: Random) -> tuple[Conversation, str, str]:
    """Two utterances, the letters in them, and all others."""
    letters = rng.sample(ascii_lowercase, len(ascii_lowercase))
    known = "".join(letters[: len(letters) // 2])
    first, second = (" ".join(rng.sample(known, words)) for _ in range(SAID))
    said = {*first, *second} - {" "}
    other = "".join(letters[len(letters) // 2 :])
    start = Conversation((Message("assistant", first), Message("user", second)))
    return start, "".join(sorted(said)), other


def _reply(known: str, other: str, shared: int, words: int, rng: Random) -> Message:
    """A reply of so many words, of which `shared` are among the known ones, in any order."""
    said = [*rng.sample(known, shared), *rng.sample(other, words - shared)]
    rng.shuffle(said)
    return Message("assistant", " ".join(said))
