"""A critic by rule, who counts how many wishes of a request a reply meets."""

from __future__ import annotations

import re
from collections.abc import Sequence

from turnsmith.data.critique import REQUEST, Critique, written
from turnsmith.registry import agent
from turnsmith.types import Conversation, Failure, Reply, Sampling

WORD = re.compile(r"the word '([^']+)'")
MOST = re.compile(r"at most (\d+) words")
SENTENCE = re.compile(r"[^.!?]*[^.!?\s][^.!?]*[.!?]+")
GOOD = "It does all that was asked."


@agent("examiner", source="Turnsmith")
class Examiner:
    """Rates the last reply: 1, and 1 for each of three wishes that it meets: one sentence, at most so many
    words, and a word that has to be in it.

    The wishes are those of the first thing that a user says which has them, as the stage `wishes` writes
    them. Its critique names what is missing, its advice asks for it. It answers what the stage
    `interactions` asks critics; all else, and a request without wishes, is a Failure.
    """

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        return [_reply(one) for one in conversations]


def _reply(conversation: Conversation) -> Reply | Failure:
    messages = conversation.messages
    if len(messages) < 3 or messages[-1].content != REQUEST or messages[-2].role != "assistant":
        return Failure("the examiner judges the last reply, and is not asked to")
    for one in messages[:-1]:
        word, most = WORD.search(one.content), MOST.search(one.content)
        if one.role == "user" and word and most:
            return Reply.scripted(written(judged(messages[-2].content, word[1], int(most[1]))))
    return Failure("the examiner finds no wishes in what was asked")


def judged(text: str, word: str, most: int) -> Critique:
    """What there is to say of a reply that should be one sentence of at most `most` words with `word` in it.

    >>> judged("Rain is cold water.", "cold", 5).rating, judged("Rain. It is wet!", "cold", 3).rating
    (4, 1)
    """
    wanting = {
        "It is not one sentence.": "Say it in one whole sentence.",
        "It is too long.": f"Use at most {most} words.",
        "The word is missing.": f"Use the word '{word}'.",
    }
    met = (
        SENTENCE.fullmatch(text.strip()) is not None,
        0 < len(text.split()) <= most,
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None,
    )
    missing = [pair for pair, one in zip(wanting.items(), met, strict=True) if not one]
    critique = " ".join(one for one, _ in missing) or GOOD
    return Critique(1 + sum(met), critique, " ".join(advice for _, advice in missing))
