"""Who answers from a table of questions and answers: the nearest rows are looked up for a chat to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np

from turnsmith.errors import DataError, UsageError
from turnsmith.registry import agent
from turnsmith.retrieve.influence import Over
from turnsmith.retrieve.table import Similarity, Table, told
from turnsmith.scorers.embedding import Embedder
from turnsmith.types import Chat, Conversation, Example, Examples, Failure, Message, Reply, Sampling


@agent("rag", models=("embedder",), chats=("by",), beside=("table",), source="arXiv:2402.17081")
class Rag:
    """Looks up the last user message in a table, and has the chat `by` answer it from the rows it found.

    table: data, of which each conversation's last answer, and what the user asked for it, is a row. embedder:
    the model whose last states, in the mean over a text, are its vector. similarity: by name; `influence`
    alone reads levels and over, which are as of the scorer `influence`. top_n: rows that are looked up, all
    where there are no more; they are told as `Q: ...; A: ...`, the nearest first. asked: what is put in the
    place of the user message, with `{reference}` and `{question}`. length: tokens of a text, of which further
    ones are left out. A conversation in which no user speaks is a Failure. Raises UsageError where `asked`
    lacks either, DataError where a row has no question and answer.
    """

    def __init__(
        self,
        *,
        table: Examples,
        by: Chat,
        embedder: str,
        similarity: Literal["cosine", "dot", "euclidean", "influence"] = "influence",
        levels: int = 16,
        over: Literal["deviation", "variance"] = "deviation",
        top_n: int = 2,
        asked: str = "{reference}\n\nAnswer from what stands above: {question}",
        length: int = 128,
    ) -> None:
        if "{reference}" not in asked or "{question}" not in asked:
            raise UsageError("rag: `asked` needs {reference} and {question}, where rows and question stand")
        if top_n < 1:
            raise UsageError(f"rag: top_n is {top_n}: at least one row has to be looked up")
        self.rows, self.by, self.asked = pairs(table), by, asked
        self.similarity: Similarity = similarity
        self.over: Over = over
        self.levels, self.top_n = levels, top_n
        self.embedded = Embedder(embedder, length)

    @cached_property
    def table(self) -> Table:
        vectors = self.embedded([question for question, _ in self.rows]).numpy(force=True)
        return Table(self.rows, vectors.astype(np.float64))

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        places = [last_of(one, "user") for one in conversations]
        known = [(one, place) for one, place in zip(conversations, places, strict=True) if place is not None]
        replies = iter(self.by(self._told(known), sampling=sampling, seed=seed) if known else [])
        return [
            Failure("there is no user message to look up") if place is None else next(replies)
            for place in places
        ]

    def _told(self, asked: Sequence[tuple[Conversation, int]]) -> list[Conversation]:
        """The conversations up to their last user messages, in which rows and question now stand."""
        questions = [one.messages[place].content for one, place in asked]
        vectors = self.embedded(questions).numpy(force=True).astype(np.float64)
        found: list[Conversation] = []
        for (one, place), question, vector in zip(asked, questions, vectors, strict=True):
            rows = self.table.nearest(
                vector, by=self.similarity, levels=self.levels, over=self.over, top_n=self.top_n
            )
            # Put in at once, so that braces in what is said stay what they are.
            said = {"{reference}": told(rows), "{question}": question}
            found.append(exchanged(one.upto(place + 1), filled(self.asked, said)))
        return found


def pairs(data: Sequence[Example]) -> list[tuple[str, str]]:
    """Of each example, what the user asked for the last answer of its `text`, and that answer. Raises
    DataError where there is no such pair."""
    found: list[tuple[str, str]] = []
    for example in data:
        text = example.parts.get("text")
        opening = text.opening if isinstance(text, Conversation) else Conversation(())
        place = last_of(opening, "user")
        if not isinstance(text, Conversation) or place is None:
            raise DataError(
                f"example {example.id!r} is no row of a table: it needs a question of the user and an answer"
            )
        answer = text.messages[len(opening.messages)].content
        found.append((opening.messages[place].content, answer))
    return found


def last_of(conversation: Conversation, role: str) -> int | None:
    """The place of the last message of this role; None where there is none."""
    places = [at for at, message in enumerate(conversation.messages) if message.role == role]
    return places[-1] if places else None


def exchanged(conversation: Conversation, text: str) -> Conversation:
    """The conversation with another text in its last message, which nobody has sampled."""
    *before, last = conversation.messages
    return replace(conversation, messages=(*before, Message(last.role, text)))


def filled(template: str, texts: dict[str, str]) -> str:
    """The template with a text for each name in it, braces included; texts are not looked into.

    >>> filled("{a} and {b}", {"{a}": "{b}", "{b}": "c"})
    '{b} and c'
    """
    name = next((one for one in texts if one in template), None)
    if name is None:
        return template
    rest = {one: text for one, text in texts.items() if one != name}
    return texts[name].join(filled(piece, rest) for piece in template.split(name))
