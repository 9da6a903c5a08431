"""Whether a customer got what it wanted."""

from __future__ import annotations

from collections.abc import Sequence

from turnsmith.errors import DataError
from turnsmith.registry import scorer
from turnsmith.types import Conversation, Example, Score


@scorer("served")
def served(
    conversations: Sequence[Conversation], examples: Sequence[Example], *, key: str = "wish"
) -> list[Score]:
    """1 where the last answer of the assistant is what the example's customer wants, 0 where it is not.

    key: of the metadata, where that stands. None where there is no answer. Raises DataError where an example
    has no such text.
    """
    return [_score(one, example, key) for one, example in zip(conversations, examples, strict=True)]


def _score(conversation: Conversation, example: Example, key: str) -> Score:
    wish = example.meta.get(key)
    if not isinstance(wish, str):
        raise DataError(f"example {example.id!r}: its {key!r} is {wish!r}, and no text")
    said = [message.content for message in conversation.messages if message.role == "assistant"]
    return float(said[-1].strip() == wish) if said else None
