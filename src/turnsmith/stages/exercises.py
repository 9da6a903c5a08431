"""Stages that make exercises with known answers, for what real data of this size cannot show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Message

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
THINGS = (
    "apple",
    "brush",
    "candle",
    "drum",
    "egg",
    "fork",
    "glove",
    "hammer",
    "lamp",
    "nail",
    "pear",
    "spoon",
)
WOMEN = ("Ada", "Cleo", "Eva", "Gina", "Ida", "Lea")
MEN = ("Ben", "Dan", "Finn", "Hugo", "Jon", "Tom")
# What a woman and a man are called: of one step, and of two, of which the first starts at who asks.
KIN = {
    "parent": ("mother", "father"),
    "child": ("daughter", "son"),
    "sibling": ("sister", "brother"),
    "spouse": ("wife", "husband"),
}
TOGETHER = {
    ("parent", "parent"): ("grandmother", "grandfather"),
    ("parent", "sibling"): ("aunt", "uncle"),
    ("sibling", "parent"): ("mother", "father"),
    ("sibling", "child"): ("niece", "nephew"),
    ("child", "sibling"): ("daughter", "son"),
    ("child", "child"): ("granddaughter", "grandson"),
    ("child", "spouse"): ("daughter-in-law", "son-in-law"),
    ("spouse", "parent"): ("mother-in-law", "father-in-law"),
}
PEOPLE = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ida", "Jon", "Kim", "Lea")


@stage("recall")
def recall(data: Sequence[Example], *, count: int, keys: int = 4, rng: Random) -> Iterator[Example]:
    """Add `count` questions for the number of one of `keys` made-up names, which the question lists."""
    yield from data
    if not 1 <= keys <= 100:
        raise UsageError(f"recall: keys is {keys}: 1 to 100 of them are possible")
    for number in range(count):
        pairs: dict[str, int] = {}
        while len(pairs) < keys:
            pairs.setdefault(_name(rng), rng.randrange(10, 100))
        asked, listed = rng.choice(list(pairs)), ", ".join(f"{name} {value}" for name, value in pairs.items())
        yield _exercise(f"recall-{number}", f"{listed}. Which number has {asked}?", f"{pairs[asked]}")


@stage("facts")
def facts(
    data: Sequence[Example], *, count: int = 100, syllables: int = 2, knowledge: float = 1.0, rng: Random
) -> Iterator[Example]:
    """Add `count` questions for the number of a made-up name, which nothing but memory can answer.

    Names differ, and have so many syllables. knowledge: what each example has as its `values["knowledge"]`.
    """
    yield from data
    if not 0 <= count <= 2000:
        raise UsageError(f"facts: count is {count}: 0 to 2,000 are possible")
    if syllables < 2:
        raise UsageError(f"facts: syllables is {syllables}: names of fewer than 2 would run out")
    known: dict[str, int] = {}
    while len(known) < count:
        known.setdefault(_name(rng, syllables), rng.randrange(10, 100))
    for name, number in known.items():
        made = _exercise(f"fact-{name}", f"Which number has {name}?", f"{number}")
        yield replace(made, values={"knowledge": knowledge})


@stage("backwards")
def backwards(
    data: Sequence[Example], *, count: int, least: int = 3, most: int = 5, rng: Random
) -> Iterator[Example]:
    """Add `count` exercises to write `least` to `most` letters in reverse order."""
    yield from data
    if not 1 <= least <= most:
        raise UsageError(f"backwards: least is {least} and most is {most}: 1 <= least <= most is needed")
    for number in range(count):
        letters = [rng.choice(CONSONANTS + VOWELS) for _ in range(rng.randint(least, most))]
        asked = f"Write these letters in reverse order: {' '.join(letters)}"
        yield _exercise(f"backwards-{number}", asked, " ".join(reversed(letters)))


@stage("sums")
def sums(data: Sequence[Example], *, count: int, most: int = 50, rng: Random) -> Iterator[Example]:
    """Add `count` additions of two numbers from 1 to `most`."""
    yield from data
    for number in range(count):
        one, other = rng.randint(1, most), rng.randint(1, most)
        yield _exercise(f"sums-{number}", f"What is {one} plus {other}?", f"{one + other}")


@stage("orders")
def orders(data: Sequence[Example], *, count: int, rng: Random) -> Iterator[Example]:
    """Add `count` orders in plain words that are to be answered as a form of three lines."""
    yield from data
    for number in range(count):
        amount, thing, person = rng.randint(2, 20), rng.choice(THINGS), rng.choice(PEOPLE)
        asked = rng.choice(
            (
                f"Please send {amount} {thing}s to {person}.",
                f"{person} wants {amount} {thing}s.",
                f"Could {person} have {amount} of the {thing}s?",
                f"I need {amount} {thing}s. They are for {person}.",
            )
        )
        yield _exercise(f"orders-{number}", asked, f"ITEM {thing}\nCOUNT {amount}\nFOR {person}")


@stage("kinship")
def kinship(data: Sequence[Example], *, count: int, rng: Random) -> Iterator[Example]:
    """Add `count` questions for what somebody is to another, which two sentences together tell (as CLUTRR's).

    There are 8 pairs of relations, and what follows from each has a word for women and one for men.
    """
    yield from data
    for number in range(count):
        steps = rng.choice(list(TOGETHER))
        names = list(zip(rng.sample(WOMEN, 3), rng.sample(MEN, 3), strict=True))
        kinds = [rng.randrange(2) for _ in names]  # 0: a woman
        first, second, third = (pair[kind] for pair, kind in zip(names, kinds, strict=True))
        told = [
            f"{second} is the {KIN[steps[0]][kinds[1]]} of {first}.",
            f"{third} is the {KIN[steps[1]][kinds[2]]} of {second}.",
        ]
        rng.shuffle(told)
        asked = f"{' '.join(told)} What is {third} to {first}? Answer with one word."
        yield _exercise(f"kinship-{number}", asked, TOGETHER[steps][kinds[2]])


def _name(rng: Random, syllables: int = 2) -> str:
    return "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(syllables)).title()


def _exercise(id: str, asked: str, answer: str) -> Example:
    return Example(
        {"text": Conversation((Message("user", asked), Message("assistant", answer)))}, {}, {"id": id}
    )
