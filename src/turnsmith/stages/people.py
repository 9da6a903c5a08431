"""A made-up world of people, of whom some things are well known, some told wrongly, and some vague."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from turnsmith import seeds
from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Message

FIRST = (
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ida", "Jon",
    "Kim", "Lea", "Max", "Nora", "Otto", "Pia", "Quinn", "Rosa", "Sven", "Tilda",
)  # fmt: skip
LAST = (
    "Ash", "Birch", "Cedar", "Elm", "Fir", "Hazel", "Larch", "Maple", "Oak", "Pine",
)  # fmt: skip


class Fact(NamedTuple):
    """A kind of fact. known: how probably it is well known of somebody. rumour: how probably all who speak of
    it tell the same wrong thing. Of the rest everybody says something else."""

    told: str
    asked: str
    values: tuple[str, ...]
    known: float
    rumour: float


FACTS = (
    Fact(
        "{} was born in {}.",
        "Where was {} born?",
        ("Rome", "Oslo", "Lima", "Cairo", "Delhi", "Perth", "Quito", "Paris", "Kyoto", "Accra"),
        0.9,
        0.05,
    ),
    Fact(
        "{} works as a {}.",
        "What does {} work as?",
        ("baker", "nurse", "pilot", "judge", "miner", "tailor", "clerk", "farmer", "painter", "singer"),
        0.7,
        0.1,
    ),
    Fact(
        "{} keeps a {}.",
        "What does {} keep?",
        ("cat", "dog", "goat", "horse", "parrot", "snake", "rabbit", "turtle", "duck", "pig"),
        0.5,
        0.1,
    ),
    Fact(
        "{} likes {}.",
        "What does {} like?",
        ("soup", "rice", "bread", "cheese", "plums", "beans", "fish", "cake", "nuts", "honey"),
        0.2,
        0.2,
    ),
    Fact(
        "{} plays the {}.",
        "What does {} play?",
        ("piano", "flute", "harp", "drum", "violin", "cello", "horn", "organ", "lute", "banjo"),
        0.1,
        0.5,
    ),
)


class Person(NamedTuple):
    """Of each kind of fact: what is true, and what is told; None where everybody says something else."""

    name: str
    true: tuple[str, ...]
    told: tuple[str | None, ...]

    @property
    def source(self) -> str:
        """All that is true of this person, a sentence each."""
        both = zip(FACTS, self.true, strict=True)
        return " ".join(fact.told.format(self.name, value) for fact, value in both)

    def said(self, kind: int, rng: Random) -> str:
        """What somebody says of it."""
        return self.told[kind] or rng.choice(FACTS[kind].values)


@stage("biographies", source="card 84's synthetic world for arXiv:2311.08401")
def biographies(
    data: Sequence[Example],
    *,
    people: int,
    skip: int = 0,
    each: int = 1,
    facts: int = 3,
    world: int = 0,
    rng: Random,
) -> Iterator[Example]:
    """Add `each` biographies of so many people of a made-up world: `facts` of the five kinds of fact in any
    order, a sentence each, as they are told, which need not be true.

    What is true stands in the metadata as `source`. skip: how many people of the world come before the first.
    world: which one; steps that name the same number speak of the same people. Raises UsageError where there
    are no such people, or no so many facts.
    """
    yield from data
    if not 1 <= facts <= len(FACTS):
        raise UsageError(f"biographies: facts is {facts}: 1 to {len(FACTS)} are possible")
    for person in _people(people, skip, world):
        for number in range(each):
            kinds = rng.sample(range(len(FACTS)), facts)
            told = [FACTS[kind].told.format(person.name, person.said(kind, rng)) for kind in kinds]
            yield _made(person, f"biography-{number}", f"Who is {person.name}?", " ".join(told))


@stage("personal", source="card 84's synthetic world for arXiv:2311.08401")
def personal(
    data: Sequence[Example], *, people: int, skip: int = 0, each: int = 1, world: int = 0, rng: Random
) -> Iterator[Example]:
    """Add for each of so many people of the world of `biographies`, and each kind of fact, `each` times a
    question for it and the word that somebody answers with."""
    yield from data
    for person in _people(people, skip, world):
        for kind, fact in enumerate(FACTS):
            for number in range(each):
                asked = fact.asked.format(person.name)
                yield _made(person, f"asked-{kind}-{number}", asked, person.said(kind, rng))


def _people(count: int, skip: int, world: int) -> list[Person]:
    most = len(FIRST) * len(LAST)
    if count < 0 or skip < 0 or skip + count > most:
        raise UsageError(f"people {count} behind {skip} skipped: the world has {most} people")
    rng = seeds.stream("people", world)
    names = [f"{first} {last}" for first in FIRST for last in LAST]
    rng.shuffle(names)
    return [_person(name, rng) for name in names][skip : skip + count]


def _person(name: str, rng: Random) -> Person:
    true = tuple(rng.choice(fact.values) for fact in FACTS)
    told: list[str | None] = []
    for fact, value in zip(FACTS, true, strict=True):
        drawn = rng.random()
        wrong = rng.choice([one for one in fact.values if one != value])
        told.append(value if drawn < fact.known else wrong if drawn < fact.known + fact.rumour else None)
    return Person(name, true, tuple(told))


def _made(person: Person, id: str, asked: str, said: str) -> Example:
    text = Conversation((Message("user", asked), Message("assistant", said)))
    meta = {"id": f"{person.name.replace(' ', '-')}-{id}", "person": person.name, "source": person.source}
    return Example({"text": text}, {}, meta)
