"""Replies on one engine that begin whenever they are asked for and are drawn on together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from turnsmith.errors import UsageError
from turnsmith.models.head import wide
from turnsmith.sample.decoding import Decoding, News
from turnsmith.sample.engine import LocalEngine, use
from turnsmith.sample.reading import PIECE
from turnsmith.sample.rows import BASE
from turnsmith.types import Best, Completion, Sampling

if TYPE_CHECKING:
    from turnsmith.sample.guides import Guide


class Joining:
    """Replies of `engine`, `count` at once, each with its prompt of at most `capacity` tokens and in a row
    that is free. A prompt that goes on from what a row has read, another turn of a talk, is read from there.

    It belongs to one thread. Weights must not change while it is used.
    """

    def __init__(self, engine: LocalEngine, count: int, capacity: int) -> None:
        self.engine, self.capacity = engine, capacity
        self.rows = engine.new(count, capacity)
        self.decoding = Decoding(self.rows, (), **engine.how())
        self._next = 0

    @property
    def running(self) -> bool:
        """Whether any reply is under way or waits for a row."""
        return self.decoding.running

    def ask(
        self,
        prompt: Sequence[int],
        *,
        sampling: Sampling,
        seed: int,
        guide: Guide | None = None,
        adapter: str | None = None,
        ends: Callable[[Sequence[int]], bool] | None = None,
        beside: Mapping[str, Sequence[int]] | None = None,
        best: int = 0,
    ) -> int:
        """The number of a reply that is to be drawn; the arguments are those of `generate`, for one. best:
        how many of the most probable ids its completion tells of each place. Raises what `generate` raises,
        and UsageError for what is longer than a row."""
        own = {name: [ids] for name, ids in (beside or {}).items()}
        self.engine.check([prompt], [seed], sampling.max_new, own)
        adapters = None if adapter is None else [adapter]
        (made,) = self.engine.requests([prompt], sampling, [seed], [guide], adapters, own, ends)
        request = replace(made, number=self._next, best=best)
        if request.longest + sampling.max_new > self.rows.capacity:
            raise UsageError(
                f"the prompt has {request.longest} tokens and {sampling.max_new} may follow, and a row has "
                f"{self.rows.capacity}: shorten the prompt or lower max_new"
            )
        self._next += 1
        self.decoding.waiting.append(request)
        return request.number

    def step(self) -> tuple[News, dict[int, Completion]]:
        """Draw the next ids: those of each reply, and the completions of those that have ended."""
        with self.engine.ready() as lean:
            use(lean, self.rows)
            told = self.decoding.step()
        return told, self._ended()

    def cancel(self, numbers: Collection[int]) -> dict[int, Completion]:
        """End these replies as they are; gives their completions."""
        self.decoding.cancel(numbers)
        return self._ended()

    def echo(self, prompt: Sequence[int], *, best: int = 0, adapter: str | None = None) -> Completion:
        """The prompt from its second token on, as if it had been drawn at temperature 1. It is read in rows
        of its own, piece by piece. Raises what `ask` raises."""
        self.engine.check([prompt], [0], 0)
        if len(prompt) > self.capacity:
            raise UsageError(
                f"the prompt has {len(prompt)} tokens, and a row has {self.capacity}: shorten it"
            )
        rows = self.engine.new(1, len(prompt))
        logprobs: list[float] = []
        likely: list[Best] = []
        with self.engine.ready() as lean:
            use(lean, rows)
            rows.begin(0, "" if adapter is None else adapter or BASE)
            for start in range(0, len(prompt) - 1, PIECE):
                piece, after = prompt[start : start + PIECE], list(prompt[start + 1 : start + PIECE + 1])
                logits = rows.read([0], [piece], keep=len(piece))[0, : len(after)]
                own = wide(logits).log_softmax(1)
                logprobs += own.gather(1, torch.tensor(after, device=own.device)[:, None])[:, 0].tolist()
                values, ids = own.topk(min(best, own.shape[1]))
                likely += [
                    tuple(zip(*two, strict=True)) for two in zip(ids.tolist(), values.tolist(), strict=True)
                ]
        return Completion(tuple(prompt[1:]), tuple(logprobs), "length", tuple(likely) if best else ())

    def _ended(self) -> dict[int, Completion]:
        ended, self.decoding.completions = self.decoding.completions, {}
        return ended
