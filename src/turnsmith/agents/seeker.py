"""A scripted seeker, who wants one item and says what is wrong with another one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from turnsmith.registry import agent
from turnsmith.types import Conversation, Failure, Reply, Sampling

ITEM = re.compile(r"\bi\d+\b")
CRITIQUE = "Not so {}."
ACCEPTED = "it is the one I want"  # in what it says once the item is recommended: a closing text


@agent("seeker", source="shuyangli94/convrec_botplay, critique_utils.py")
class SeekerAgent:
    """Wants one item, and criticises an aspect that is named of another one and that the item does not have.

    It is told in its system text what it wants: `i42 hoppy smooth`. It names the first such aspect of
    `aspects` that it has not criticised yet, as the cooperative seeker of bot play does; where there is none
    it asks for another item. Once the item is recommended it says so, with ACCEPTED. A conversation whose
    system text names no item is a Failure.
    """

    def __init__(self, *, aspects: tuple[str, ...]) -> None:
        self.aspects = aspects

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        return [self._reply(one) for one in conversations]

    def _reply(self, conversation: Conversation) -> Reply | Failure:
        told = " ".join(one.content for one in conversation.messages if one.role == "system")
        wanted = ITEM.search(told)
        if wanted is None:
            return Failure("the seeker is not told which item it wants, such as 'i42 hoppy smooth'")
        heard = [one.content for one in conversation.messages if one.role == "user"]
        own = " ".join(one.content for one in conversation.messages if one.role == "assistant")
        text = self._said(wanted[0], told.split(), heard[-1], own) if heard else "What do you recommend?"
        return Reply.scripted(text)

    def _said(self, item: str, wanted: Sequence[str], heard: str, own: str) -> str:
        if item in ITEM.findall(heard):
            return f"Yes, {ACCEPTED}."
        named = set(re.findall(r"\w+", heard))
        for aspect in self.aspects:
            if aspect in named and aspect not in wanted and CRITIQUE.format(aspect) not in own:
                return CRITIQUE.format(aspect)
        return "Another one, please."
