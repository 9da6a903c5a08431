"""Judging replies by how like they are to what was said before, in the eyes of a model that was taught
nothing of it."""

from __future__ import annotations

from collections.abc import Sequence

from torch.nn import functional as F

from turnsmith.errors import DataError
from turnsmith.registry import scorer
from turnsmith.scorers.embedding import Embedder
from turnsmith.types import Conversation, Example, Score


@scorer("likeness", models=("by",), source="arXiv:1908.10084 sec. 3", version=2)
class Likeness:
    """The cosine of two embeddings: that of all that was said before the last reply, joined by spaces, and
    that of the reply.

    An embedding is the mean of the last states of the model `by` over the tokens of a text alone: of an
    encoder marks included, as sentence encoders are trained, of a model that speaks without its template.
    length: tokens of a text, of which further ones are left out. The model is loaded at the first call.
    Raises DataError where nothing was said before.
    """

    def __init__(self, *, by: str, length: int = 128) -> None:
        self.embedded = Embedder(by, length)

    def __call__(self, conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
        texts: list[str] = []
        for one, example in zip(conversations, examples, strict=True):
            said, reply = spoken(one, example)
            texts += [said, reply]
        every = self.embedded(texts)
        return F.cosine_similarity(every[0::2], every[1::2]).tolist() if texts else []


def spoken(conversation: Conversation, example: Example) -> tuple[str, str]:
    """All that was said before the last message, joined by spaces, and that message. Raises DataError where
    nothing was."""
    if len(conversation.messages) < 2:
        raise DataError(f"example {example.id!r}: nothing was said before its last message")
    *before, last = conversation.messages
    return " ".join(message.content for message in before), last.content
