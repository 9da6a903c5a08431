"""Judging answers by how long they are."""

from __future__ import annotations

from collections.abc import Sequence

from turnsmith.errors import DataError
from turnsmith.registry import scorer
from turnsmith.types import Conversation, Example, Score


@scorer("fewest_tokens", source="arXiv:2404.14367 sec. 4.2")
def fewest_tokens(conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
    """Minus the number of tokens that the last message of each conversation was sampled as, the one that ends
    it included. Raises DataError where it was not sampled here, so that its tokens are not known."""
    both = zip(conversations, examples, strict=True)
    return [-float(_tokens(conversation, example)) for conversation, example in both]


@scorer("words")
def words(conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
    """How many words the last message of each conversation has, as spaces part them."""
    return [float(len(one.messages[-1].content.split())) if one.messages else 0.0 for one in conversations]


@scorer("all_words")
def all_words(conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
    """How many words all messages of each conversation have but for system texts, as spaces part them."""
    return [
        float(sum(len(message.content.split()) for message in one.messages if message.role != "system"))
        for one in conversations
    ]


def _tokens(conversation: Conversation, example: Example) -> int:
    ids = conversation.messages[-1].ids if conversation.messages else None
    if ids is None:
        raise DataError(f"example {example.id!r}: its last message has no sampled tokens to be counted")
    return len(ids)
