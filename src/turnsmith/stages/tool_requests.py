"""Requests to tools of a made-up office: the words say what to call, and some values are converted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Message

VERBS = ("book", "cancel", "check", "order", "send")
THINGS = ("room", "desk", "lunch", "taxi")  # 20 tools, each with its own arguments
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
REFUSAL = "I have no tool for that."
OTHER = ("Sing", "Dance", "Laugh", "Sleep")


class Argument(NamedTuple):
    """How a value is asked for, and how it is written in a call."""

    asked: str
    written: str


def _day(rng: Random) -> Argument:
    day = rng.choice(DAYS)
    return Argument(f"on {day}", f"day='{day}'")


def _time(rng: Random) -> Argument:
    hour, late = rng.randint(1, 11), rng.random() < 0.5
    return Argument(f"at {hour} {'pm' if late else 'am'}", f"hour={hour + 12 * late}")


def _people(rng: Random) -> Argument:
    count = rng.randrange(len(COUNTS))
    return Argument(f"for {COUNTS[count]}", f"people={count + 1}")


def _length(rng: Random) -> Argument:
    hours = rng.randint(1, 4)
    return Argument(f"lasting {hours} h", f"minutes={60 * hours}")


KINDS = (_day, _time, _people, _length)


@stage("tool_requests", source="Turnsmith, after arXiv:2501.09766")
def tool_requests(
    data: Sequence[Example],
    *,
    count: int,
    least: int = 1,
    most: int = 3,
    none: float = 0.1,
    rng: Random,
) -> Iterator[Example]:
    """Add `count` requests to one of 20 tools, with the call as the answer, e.g. `[book_room(day='Friday',
    hour=17)]` to one for a room on Friday at 5 pm.

    A tool takes 1 to 3 arguments, which its name decides; hours of the day and lengths are converted, and
    numbers stand as words. least, most: how many arguments the tools have that are asked for; the value
    `difficulty` is how many it is. none: how probably nothing is asked that a tool can do, and the answer
    says so; its difficulty is 0. Raises UsageError where no tool has so many arguments.
    """
    yield from data
    if not 1 <= least <= most <= 3 or not 0 <= none <= 1:
        raise UsageError(f"tool_requests: least {least}, most {most}, none {none}: 1 to 3, and a share")
    tools = [one for one in _tools() if least <= len(one[2]) <= most]
    for number in range(count):
        if rng.random() < none:
            asked, said, difficulty = f"{rng.choice(OTHER)} {_day(rng).asked}.", REFUSAL, 0
        else:
            verb, thing, kinds = rng.choice(tools)
            given = [KINDS[kind](rng) for kind in kinds]
            shuffled = rng.sample(given, len(given))
            asked = " ".join([f"{verb.title()} a {thing}", *(one.asked for one in shuffled)]) + "."
            said = f"[{verb}_{thing}({', '.join(one.written for one in given)})]"
            difficulty = len(given)
        text = Conversation((Message("user", asked), Message("assistant", said)))
        yield Example({"text": text}, {"difficulty": float(difficulty)}, {"id": f"request-{number}"})


def _tools() -> list[tuple[str, str, tuple[int, ...]]]:
    """Verb, thing and kinds of arguments of each: the same for everybody."""
    rng = Random(21)  # the card's number
    pairs = [(verb, thing) for verb in VERBS for thing in THINGS]
    return [
        (verb, thing, tuple(sorted(rng.sample(range(len(KINDS)), 1 + at % 3))))
        for at, (verb, thing) in enumerate(pairs)
    ]
