"""A recommender that can be talked to, in the few words that it understands."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from turnsmith import seeds
from turnsmith.errors import DataError
from turnsmith.models import load
from turnsmith.models.networks.recommender import Reviews, criticised, recommender_of
from turnsmith.registry import agent
from turnsmith.types import Conversation, Failure, Reply, Sampling

CRITIQUE = re.compile(r"\b(not so|less|too|more)\s+(\w+)", re.IGNORECASE)
UNSAID = "I only understand such things as 'not so {0}' and 'more {0}'. "
LIKELY = 0.5  # at temperature 0 an aspect is named if it is more likely than this


@agent("recommender", models=("model",), source="shuyangli94/convrec_botplay, critique_proj.py")
class RecommenderAgent:
    """Names an item that the user has not reviewed, with aspects of it, and takes critiques of them.

    model: a recommender. What the user has reviewed is told in the system text, as in a row of reviews:
    `u17 i3 hoppy smooth i9 crisp`. In what the user says, `not so`, `less` and `too` before an aspect are a
    negative critique of it, `more` is a positive one; a message after an answer in which nothing is
    understood is answered by saying so. Aspects are drawn from the justification; at temperature 0 they are
    those that are more likely than not. A conversation whose system text is no such row is a Failure.
    """

    def __init__(self, *, model: str) -> None:
        whole, self.words = load.load(model)
        self.recommender = recommender_of(whole, "the agent 'recommender'").eval()
        config = self.recommender.config
        self.aspects = self.words.convert_ids_to_tokens(
            list(range(config.vocab_size - config.aspects, config.vocab_size))
        )

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        numbers = [seeds.number(seed, "recommender", place) for place in range(len(conversations))]
        return self.by_seeds(conversations, seeds=numbers, sampling=sampling)

    def by_seeds(
        self,
        conversations: Sequence[Conversation],
        *,
        seeds: Sequence[int],
        sampling: Sampling | None = None,
    ) -> list[Reply | Failure]:
        """A reply to each conversation, which depends on its own seed alone."""
        greedy = sampling is not None and sampling.temperature == 0
        pairs = zip(conversations, seeds, strict=True)
        return [self._reply(one, seed, greedy=greedy) for one, seed in pairs]

    @torch.no_grad()
    def _reply(self, conversation: Conversation, seed: int, *, greedy: bool) -> Reply | Failure:
        told = " ".join(one.content for one in conversation.messages if one.role == "system")
        try:
            seen = self.recommender.reviews(torch.tensor([self.words(told)["input_ids"]], dtype=torch.long))
        except DataError as error:
            return Failure(f"the recommender is not told of a user and reviews: {error}")
        critiques, understood = self._critiques(conversation, seen)
        scores = self.recommender.scores(seen.user, critiques).masked_fill(seen.reviewed, -torch.inf)
        item = scores.argmax(1)
        likely = self.recommender.justify(seen.user, critiques, item)[0].sigmoid()
        if greedy:
            shown = likely > LIKELY
        else:
            shown = torch.rand(len(likely), generator=torch.Generator().manual_seed(seed)) < likely
        text = "" if understood else UNSAID.format(self.aspects[0])
        text += _said(int(item), [self.aspects[one] for one in shown.nonzero()[:, 0].tolist()])
        return Reply.scripted(text)

    def _critiques(self, conversation: Conversation, seen: Reviews) -> tuple[Tensor, bool]:
        """(1, K): what the user has said of aspects, in reviews and since; and whether the last message, if
        it follows an answer, was understood."""
        critiques, understood, answered = seen.profile + seen.aspects, True, False
        for message in conversation.messages:
            if message.role == "assistant":
                answered = True
            if message.role != "user":
                continue
            found = [
                (how.lower(), word.lower())
                for how, word in CRITIQUE.findall(message.content)
                if word.lower() in self.aspects
            ]
            understood = bool(found) or not answered
            for how, word in found:
                which = torch.zeros_like(critiques, dtype=torch.bool)
                which[0, self.aspects.index(word)] = True
                critiques = criticised(critiques, which, sign=1 if how == "more" else -1)
        return critiques, understood


def _said(item: int, aspects: Sequence[str]) -> str:
    """The recommendation in words.

    >>> _said(42, ["hoppy", "dry", "sour"]), _said(7, [])
    ('How about i42? It is hoppy, dry and sour.', 'How about i7?')
    """
    if not aspects:
        return f"How about i{item}?"
    listed = ", ".join(aspects[:-1])
    return f"How about i{item}? It is {f'{listed} and {aspects[-1]}' if listed else aspects[-1]}."
