"""A game of finding out: a customer has three tastes, and one place of eight suits them.

What is said: a seller asks `sea?`, `hot?` or `fun?`, and a customer answers yes or no; `go yny` recommends
the place for who says yes to the first and the last and no to the second. A profile, `sea yes, hot no, fun
yes`, says what a customer likes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from turnsmith.errors import DataError
from turnsmith.registry import scorer
from turnsmith.types import Conversation, Example, Score

TASTES = ("sea", "hot", "fun")
ANSWERS = {True: "yes", False: "no"}
PROFILE = re.compile(", ".join(f"{taste} (yes|no)" for taste in TASTES))
PLACE = re.compile("go ([yn]{3})")


@scorer("suits", source="arXiv:2311.05584 sec. 5, as a game")
def suits(conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
    """1 where the first place that the assistant recommends is the one for the customer, else 0, also before
    it has recommended any. The customer is the `profile` in the example's metadata."""
    return [float(_suits(*pair)) for pair in zip(conversations, examples, strict=True)]


@scorer("inquires", source="arXiv:2311.05584 sec. 5, as a game")
def inquires(conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
    """How many different tastes the assistant asked about before it recommended a place; up to 3."""
    return [float(len(_asked(conversation))) for conversation in conversations]


def profile(tastes: Sequence[bool]) -> str:
    """What a customer likes, in words.

    >>> profile((True, False, True))
    'sea yes, hot no, fun yes'
    """
    return ", ".join(f"{taste} {ANSWERS[likes]}" for taste, likes in zip(TASTES, tastes, strict=True))


def likes(text: str) -> dict[str, bool] | None:
    """What a text that holds a profile says that a customer likes; None where it holds none."""
    found = PROFILE.search(text)
    return (
        None if found is None else dict(zip(TASTES, (said == "yes" for said in found.groups()), strict=True))
    )


def place(tastes: Mapping[str, bool]) -> str:
    """The one that suits.

    >>> place({"sea": True, "hot": False, "fun": True})
    'yny'
    """
    return "".join(ANSWERS[tastes[taste]][0] for taste in TASTES)


def recommended(said: str) -> str | None:
    """The place that an utterance recommends; None where it recommends none."""
    found = PLACE.search(said)
    return found and found.group(1)


def _suits(conversation: Conversation, example: Example) -> bool:
    told = likes(str(example.meta.get("profile")))
    if told is None:
        usual = profile((True, False, True))
        raise DataError(f"example {example.id!r} has no `profile` in its metadata, such as {usual!r}")
    places = (recommended(one.content) for one in conversation.messages if one.role == "assistant")
    return next((one for one in places if one), None) == place(told)


def _asked(conversation: Conversation) -> set[str]:
    asked: set[str] = set()
    for message in conversation.messages:
        if message.role == "assistant":
            if recommended(message.content):
                break
            asked |= {taste for taste in TASTES if f"{taste}?" in message.content}
    return asked
