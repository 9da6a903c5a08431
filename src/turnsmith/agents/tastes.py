"""The traveller of the game of tastes, whom nobody has to guess at, and sellers who are not good at it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random

from turnsmith import seeds
from turnsmith.errors import UsageError
from turnsmith.registry import agent
from turnsmith.scorers.tastes import TASTES, likes, place, recommended
from turnsmith.types import Conversation, Failure, Reply, Sampling

BYE = "bye"  # the traveller's word once a place was recommended


@agent("traveller", source="arXiv:2311.05584 sec. 5, as a game")
class Traveller:
    """Who answers questions about its tastes truthfully, says `bye` to any place, and `hm` to all else.

    What it likes is a profile in its system text; without one it cannot answer.
    """

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        return [_answer(conversation) for conversation in conversations]


@agent("sloppy_seller", source="arXiv:2311.05584 sec. 5, as a game")
class SloppySeller:
    """Who chats, asks at random, and recommends before it knows enough.

    hasty: how probably a turn recommends a place; chatty: how probably it is small talk; else it asks about
    one of the tastes, whether that is known or not. careless: how probably a recommendation is any place,
    where it would else be one that suits all answers so far. turns: that in which it recommends at the
    latest. Raises UsageError where a probability is none, or the first two make more than 1.
    """

    def __init__(
        self, *, hasty: float = 0.3, chatty: float = 0.1, careless: float = 0.25, turns: int = 5
    ) -> None:
        if min(hasty, chatty, careless) < 0 or careless > 1 or hasty + chatty > 1:
            raise UsageError(
                f"sloppy_seller: hasty {hasty}, chatty {chatty} and careless {careless} have to be "
                "probabilities, the first two together at most 1"
            )
        self.hasty, self.chatty, self.careless, self.turns = hasty, chatty, careless, turns

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        return self.by_seeds(conversations, seeds=[seeds.number(seed, n) for n in range(len(conversations))])

    def by_seeds(
        self, conversations: Sequence[Conversation], *, seeds: Sequence[int], sampling: Sampling | None = None
    ) -> list[Reply | Failure]:
        """Answers of which each depends on its seed and conversation alone."""
        return [
            Reply.scripted(self._say(*pair)) for pair in zip(conversations, map(Random, seeds), strict=True)
        ]

    def _say(self, conversation: Conversation, rng: Random) -> str:
        mine = sum(message.role == "assistant" for message in conversation.messages)
        drawn = rng.random()
        if mine + 1 >= self.turns or drawn < self.hasty:
            known = {} if rng.random() < self.careless else _heard(conversation)
            return f"go {place([known.get(asks) or rng.choice(answers) for asks, answers in TASTES.items()])}"
        return "ok?" if drawn < self.hasty + self.chatty else rng.choice([*TASTES])


def _answer(conversation: Conversation) -> Reply | Failure:
    told = likes("\n".join(one.content for one in conversation.messages if one.role == "system"))
    if told is None:
        return Failure("the traveller was not told what it likes")
    said = conversation.messages[-1].content
    if recommended(said):
        return Reply.scripted(BYE)
    return Reply.scripted(next((answer for question, answer in told.items() if question in said), "hm"))


def _heard(conversation: Conversation) -> dict[str, str]:
    """What a traveller has answered, by question."""
    pairs = pairwise(message.content for message in conversation.messages)
    return {asked: said for asked, said in pairs if said in TASTES.get(asked, ())}
