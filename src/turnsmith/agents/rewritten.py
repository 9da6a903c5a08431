"""Who says again, by rule and in other words, what it was told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from turnsmith.errors import UsageError
from turnsmith.registry import agent
from turnsmith.types import Conversation, Failure, Reply, Sampling


@agent("rewritten")
class Rewritten:
    r"""Looks for each pattern in what was said last, and answers with what stands beside the first that is
    there, its groups filled in: `{'(\w+) sings (\w+)': 'What does \1 sing?\n\2'}` turns a claim into a
    question and its answer.

    Where no pattern is there it cannot answer. Raises UsageError where there are no rules, or one is no
    pattern of Python's.
    """

    def __init__(self, *, rules: Mapping[str, str]) -> None:
        if not rules:
            raise UsageError("rewritten: there are no rules: give patterns and what is to be said for each")
        try:
            self.rules = [(re.compile(pattern), said) for pattern, said in rules.items()]
        except re.error as error:
            raise UsageError(f"rewritten: {error.pattern!r} is no pattern: {error}") from None

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        return [self._reply(one.messages[-1].content if one.messages else "") for one in conversations]

    def _reply(self, said: str) -> Reply | Failure:
        for pattern, words in self.rules:
            if found := pattern.search(said):
                return Reply.scripted(found.expand(words))
        return Failure("no rule says what is to be answered here")
