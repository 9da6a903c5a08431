"""Conversations in which a scripted seeker criticises what a recommender shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from turnsmith import seeds
from turnsmith.data.prepare import prepare
from turnsmith.errors import DataError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.models.networks.recommender import Recommender, Reviews, recommender_of
from turnsmith.objectives.botplay import DRAWS, Seeker, Talk
from turnsmith.registry import task
from turnsmith.types import Example, is_list


class Held(NamedTuple):
    """What became of conversations. ranks: (E, T), of the wanted item at each turn, from 0. turn: (E,), at
    which it was recommended, from 1; T + 1 where it never was."""

    ranks: Tensor
    turn: Tensor


@task("critiquing", data=True, source="shuyangli94/convrec_botplay, critique_proj.py")
class Critiquing:
    """Recommend an item to a seeker who wants the last one of a row of reviews, until it is found.

    on: rows of reviews whose metadata name the aspects of the last item as `wanted`. At each of at most
    `turns` the best item is recommended, with aspects drawn from its justification, and the seeker criticises
    `critiques` of them; items that the user has reviewed before are never recommended. A row whose last item
    was reviewed before is left out. seeker, feedback: as of the objective `bot_play`. Without critiques the
    recommender would walk down its first ranking, from which the figures of that follow.
    """

    title = "Conversations with a seeker who criticises"
    note = (
        "A scripted seeker wants one held-out item and says at each turn which shown aspect it does not "
        "have. Success is whether that item was recommended, early success whether within half of the "
        "turns; a conversation without success counts all its turns. Without critiques, items are "
        "recommended in the order of the first ranking."
    )
    metrics = (
        Metric("success", "found", "share", "higher"),
        Metric("early success", "early", "share", "higher"),
        Metric("turns", "turns", "turns", "lower"),
        Metric("reciprocal rank at the end", "reciprocal", "mean reciprocal rank", "higher"),
        Metric("success without critiques", "walked", "share", "higher"),
        Metric("turns without critiques", "walk", "turns", "lower"),
        Metric("aspects that are right", "aspects", "F1", "higher"),
    )

    def __init__(
        self,
        *,
        on: str,
        turns: int = 10,
        seeker: Literal["coop", "random", "diff"] = "coop",
        feedback: Literal["negative", "positive", "both"] = "negative",
        critiques: int = 1,
        count: int = 500,
    ) -> None:
        self.on, self.turns, self.count = on, turns, count
        self.seeker = Seeker(seeker, feedback, critiques)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        recommender = recommender_of(subject.scoring.base, "the task 'critiquing'")
        examples = list(bench.examples(self.on))[: self.count]
        rows = _rows(examples, subject)
        seen = recommender.reviews(rows)
        new = _new(rows, seen, recommender)
        kept = [example for example, fresh in zip(examples, new.tolist(), strict=True) if fresh]
        seen = Reviews(*(part[new] for part in seen))
        wanted = _wanted(kept, subject, recommender).to(rows.device)
        drawn = _drawn(kept, self.turns, recommender).to(rows.device)
        with torch.no_grad():
            held = self.held(recommender, seen, wanted, drawn)
            said = recommender.justify(seen.user, seen.profile, seen.item) > 0
        right = 2.0 * (said & (seen.aspects > 0)).sum(1) / (said.sum(1) + seen.aspects.sum(1)).clamp(min=1)
        return [
            self._item(example, held.ranks[place].tolist(), int(held.turn[place]), float(right[place]))
            for place, example in enumerate(kept)
        ]

    def held(self, recommender: Recommender, seen: Reviews, wanted: Tensor, drawn: Tensor) -> Held:
        """Hold the conversations. wanted: (E, K), of the items that the seekers want; drawn: (E, T, DRAWS,
        K), from [0, 1)."""
        talk = Talk.begun(seen.item, wanted, seen.profile)
        hidden = seen.reviewed.scatter(1, seen.item[:, None], value=False)
        turn = torch.full_like(seen.item, self.turns + 1)
        ranks: list[Tensor] = []
        for number in range(self.turns):
            scores = recommender.scores(seen.user, talk.critiques).masked_fill(hidden, -torch.inf)
            best = scores.argmax(1)
            ranks.append((scores > scores.gather(1, seen.item[:, None])).sum(1))
            turn = torch.where((best == seen.item) & ~talk.found, number + 1, turn)
            talk = self.seeker.answered(recommender, seen.user, talk, best, drawn[:, number])
        return Held(torch.stack(ranks, 1), turn)

    def _item(self, example: Example, ranks: list[int], turn: int, aspects: float) -> Item:
        """Values of one conversation; its turns end with success."""
        reached = ranks[: min(turn, self.turns)]
        values = {
            "early": float(2 * turn <= self.turns),
            "found": float(turn <= self.turns),
            "turns": float(min(turn, self.turns)),
            "reciprocal": 1 / (reached[-1] + 1),
            "walked": float(ranks[0] < self.turns),
            "walk": float(min(ranks[0] + 1, self.turns)),
            "aspects": aspects,
        }
        return Item(example.id, "", values, {"ranks": reached})


def _rows(examples: Sequence[Example], subject: Subject) -> Tensor:
    """(E, T): the ids of each example's text, -1 behind its end."""
    rendered, _ = prepare(examples, subject.renderer, ["text"], length=10**6)
    ids = [torch.from_numpy(one.parts["text"][0].inputs).long() for one in rendered]
    return nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-1).to(subject.scoring.device)


def _new(rows: Tensor, seen: Reviews, recommender: Recommender) -> Tensor:
    """(E,): whether the last item of a row stands in it once."""
    first = recommender.config.first + recommender.config.users
    return (rows == (seen.item + first)[:, None]).sum(1) == 1


def _wanted(examples: Sequence[Example], subject: Subject, recommender: Recommender) -> Tensor:
    """(E, K): whether the metadata name an aspect. Raises DataError where they name none, or one that the
    model does not know."""
    size = recommender.config.aspects
    first, words = recommender.config.vocab_size - size, subject.renderer.tokenizer.get_vocab()
    found = torch.zeros(len(examples), size, dtype=torch.bool)
    for row, example in enumerate(examples):
        named = example.meta.get("wanted")
        if not named or not is_list(named):
            raise DataError(
                f"example {example.id!r} does not name the aspects of what is wanted: give its metadata a "
                "list `wanted`, as the stage 'reviews' does on its side 'heldout'"
            )
        for word in named:
            if words.get(word, 0) < first:
                raise DataError(f"example {example.id!r} wants {word!r}, which is no aspect of the model")
            found[row, words[word] - first] = True
    return found


def _drawn(examples: Sequence[Example], turns: int, recommender: Recommender) -> Tensor:
    """(E, turns, DRAWS, K): from [0, 1), each example's its own."""
    size = (turns, DRAWS, recommender.config.aspects)
    keyed = (seeds.tensor("critiquing", example.id) for example in examples)
    return torch.stack([torch.rand(size, generator=one) for one in keyed])
