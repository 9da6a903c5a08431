"""The reward of a bandit whose actions are letters in a row: a bump around the best one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from turnsmith.errors import UsageError
from turnsmith.registry import scorer
from turnsmith.types import Conversation, Example, Score

# 100 characters of one byte each, which no template trims: the last ones of ASCII that are no white space.
ACTIONS = "".join(chr(code) for code in range(128) if not chr(code).isspace())[-100:]


@scorer("bump", source="arXiv:2404.14367 sec. 4.1")
def bump(
    conversations: Sequence[Conversation], examples: Sequence[Example], *, peak: int, width: float = 10.0
) -> list[Score]:
    """exp(-((a - peak) / width)^2) of the action a, 0 to 99, that is the last message of a conversation.

    0 for a message that is no action. Raises UsageError unless peak is an action and width above 0.
    """
    if not 0 <= peak < len(ACTIONS) or width <= 0:
        raise UsageError(f"bump: a peak from 0 to 99 and a width above 0 are needed, not {peak} and {width}")
    said = (one.messages[-1].content for one in conversations)
    places = (ACTIONS.find(text) if len(text) == 1 else -1 for text in said)
    return [math.exp(-(((place - peak) / width) ** 2)) if place >= 0 else 0.0 for place in places]
