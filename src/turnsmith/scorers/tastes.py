"""A game of finding out: a traveller has three tastes, and one place of eight suits them.

What is said: a seller asks `sea?`, `hot?` or `fun?`, and a traveller answers `Sea` or `Ice`, `Hot` or `Dry`,
`Fun` or `Art`. `go IHF` recommends the place of ice, heat and fun. A profile, `Ice, Hot, Fun`, says what a
traveller likes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from turnsmith.errors import DataError
from turnsmith.registry import scorer
from turnsmith.types import Conversation, Example, Score

TASTES = {"sea?": ("Sea", "Ice"), "hot?": ("Hot", "Dry"), "fun?": ("Fun", "Art")}  # by what asks for them
PROFILE = re.compile(", ".join(f"({'|'.join(answers)})" for answers in TASTES.values()))
PLACE = re.compile("go ([SI][HD][FA])")  # the first letters of the answers


@scorer("suits", source="arXiv:2311.05584 sec. 5, as a game")
def suits(conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
    """1 where the first place that the assistant recommends is the one for the traveller, else 0, also before
    it has recommended any. The traveller is the `profile` in the example's metadata."""
    return [float(_suits(*pair)) for pair in zip(conversations, examples, strict=True)]


@scorer("inquires", source="arXiv:2311.05584 sec. 5, as a game")
def inquires(conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
    """How many different tastes the assistant asked about before it recommended a place; up to 3."""
    return [float(len(_asked(conversation))) for conversation in conversations]


def likes(text: str) -> dict[str, str] | None:
    """The answers, by question, of the traveller whose profile a text holds; None where it holds none.

    >>> likes("You are a traveller. Ice, Hot, Fun")
    {'sea?': 'Ice', 'hot?': 'Hot', 'fun?': 'Fun'}
    """
    found = PROFILE.search(text)
    return None if found is None else dict(zip(TASTES, found.groups(), strict=True))


def place(answers: Sequence[str]) -> str:
    """The one that suits who answers so.

    >>> place(("Ice", "Hot", "Fun"))
    'IHF'
    """
    return "".join(answer[0] for answer in answers)


def recommended(said: str) -> str | None:
    """The place that an utterance recommends; None where it recommends none."""
    found = PLACE.search(said)
    return found and found.group(1)


def _suits(conversation: Conversation, example: Example) -> bool:
    told = likes(str(example.meta.get("profile")))
    if told is None:
        raise DataError(f"example {example.id!r} has no `profile` in its metadata, such as 'Ice, Hot, Fun'")
    places = (recommended(one.content) for one in conversation.messages if one.role == "assistant")
    return next((one for one in places if one), None) == place([*told.values()])


def _asked(conversation: Conversation) -> set[str]:
    asked: set[str] = set()
    for message in conversation.messages:
        if message.role == "assistant":
            if recommended(message.content):
                break
            asked |= {question for question in TASTES if question in message.content}
    return asked
