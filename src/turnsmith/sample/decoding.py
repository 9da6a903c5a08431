"""Many replies under way at once: who has ended leaves, who waits comes in, nothing is read twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnsmith import seeds
from turnsmith.sample.choosing import Penalties, choose, likeliest
from turnsmith.sample.reading import Prompt, read_prompts
from turnsmith.types import Best, Completion, Finish, Sampling

if TYPE_CHECKING:
    from turnsmith.sample.guides import Guide


class Reading(Protocol):
    """Rows that replies are drawn on: those of one model, or of several in step."""

    @property
    def count(self) -> int: ...

    def read(self, rows: Sequence[int], news: Sequence[Sequence[int]], *, keep: int = 1) -> Tensor:
        """The logits (B, keep, V) after the last `keep` of `news`, read on in the rows."""
        ...

    def copy(self, row: int, source: Any, origin: int, length: int) -> None: ...

    def cut(self, row: int, length: int) -> None: ...

    def swap(self, one: int, other: int) -> None: ...


class Drafter(Protocol):
    """Guesses what comes next, to be judged by one pass of the model over all guesses."""

    def guess(
        self,
        rows: Any,
        news: Sequence[int],
        uniforms: Sequence[NDArray[np.float32]],
        samplings: Sequence[Sampling],
    ) -> list[list[int]]:
        """Ids for each of the first rows, whose last ones, `news`, have not been read yet. uniforms,
        samplings: what the next ids of each will be drawn with."""
        ...

    def swap(self, one: int, other: int) -> None:
        """Two rows have changed places."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """A reply to be drawn. number: whose it is. ends: whether these ids end it, for a reason of its own.
    adapter: of the model, by name; "" is whatever is active. beside: the prompt for each further model that
    reads in step, in their order. best: how many of the most probable ids are told of each place."""

    number: int
    prompt: tuple[int, ...]
    seed: int
    sampling: Sampling
    ends: Callable[[Sequence[int]], bool] | None = None
    guide: Guide | None = None
    adapter: str = ""
    beside: tuple[tuple[int, ...], ...] = ()
    best: int = 0

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(map(len, (self.prompt, *self.beside)))


@dataclass(slots=True)
class _Reply:
    """One that is under way."""

    request: Request
    uniforms: NDArray[np.float32]  # (max_new,)
    ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    best: list[Best] = field(default_factory=list[Best])


News = list[tuple[int, tuple[int, ...]]]  # numbers of replies, and the ids that they got
# Rows, prompts, the first row, and rows of earlier calls, to the logits (P, V) after each: see `reading.py`.
ReadPrompts = Callable[[Any, Sequence[Prompt], int, Sequence[Any]], Tensor]


class Decoding:
    """Replies to `requests`, as many at once as there are rows; those under way are always in the first ones.

    stop: ids that end a reply. known: rows of earlier calls, for what prompts have in common with them.
    drafter: guesses ahead. read: how prompts come into the rows. waiting: requests that have not begun; more
    may be put there at any time. completions: of those that have ended, by their numbers.
    """

    def __init__(
        self,
        rows: Reading,
        requests: Iterable[Request],
        *,
        stop: Sequence[int],
        known: Sequence[Any] = (),
        drafter: Drafter | None = None,
        read: ReadPrompts = read_prompts,
    ) -> None:
        self.rows, self.stop = rows, frozenset(stop)
        self.read_prompts = read
        self.known, self.drafter = known, drafter
        self.waiting = deque(requests)
        self.alive: list[_Reply] = []
        self.completions: dict[int, Completion] = {}
        self.penalties: Penalties | None = None

    @property
    def running(self) -> bool:
        return bool(self.alive or self.waiting)

    def step(self) -> News:
        """Draw the next token of those under way, or the first one of those that come in."""
        if self.waiting and len(self.alive) < self.rows.count:
            return self._admit()
        return self._advance()

    def cancel(self, numbers: Collection[int] | None = None) -> None:
        """End these replies as they are, or all."""
        for reply in self.alive:
            if numbers is None or reply.request.number in numbers:
                self._end(reply, "cancelled")
        gone = [one for one in self.waiting if numbers is None or one.number in numbers]
        for request in gone:
            self.completions[request.number] = Completion((), (), "cancelled")
        self.waiting = deque(one for one in self.waiting if one.number not in self.completions)
        self._leave(())

    # ---------------------------------------------------------------------------------- those that wait

    def _admit(self) -> News:
        """Read as many prompts as there are rows for, equal ones once, and draw the first token of each."""
        first = len(self.alive)
        come = [self.waiting.popleft() for _ in range(min(self.rows.count - first, len(self.waiting)))]
        twins: dict[Prompt, list[Request]] = {}
        for request in come:
            prompt = Prompt(request.adapter, request.prompt, request.beside)
            twins.setdefault(prompt, []).append(request)
        logits = self.read_prompts(self.rows, list(twins), first, self.known)
        # Of equal prompts the first reply stands where the prompt was read, the others behind all of these.
        come = [requests[0] for requests in twins.values()]
        origins = list(range(len(come)))
        for origin, requests in enumerate(twins.values()):
            for request in requests[1:]:
                self.rows.copy(first + len(come), self.rows, first + origin, len(request.prompt))
                come.append(request)
                origins.append(origin)
        if self.penalties is None and any(Penalties.wanted(request.sampling) for request in come):
            self.penalties = Penalties(self.rows.count, logits.shape[1], logits.device)
        if self.penalties is not None:
            for row, request in enumerate(come, start=first):
                self.penalties.begin(row, request.prompt, request.sampling)
        self.alive += [self._begun(request) for request in come]
        places = list(range(first, len(self.alive)))
        self._draw(places, logits[origins])
        return self._leave(places)

    def _begun(self, request: Request) -> _Reply:
        rng = seeds.array(request.seed, "sample")
        return _Reply(request, rng.random(request.sampling.max_new, dtype=np.float32))

    # ---------------------------------------------------------------------------------- those under way

    def _advance(self) -> News:
        """Read the last id of each reply, and guesses of what follows, and draw on from there.

        What is drawn behind a guess counts where the guess was drawn itself: with the same random numbers,
        all is as it would be without guesses.
        """
        guesses = self._guessed()
        width = len(guesses[0])
        news = [[reply.ids[-1], *guess] for reply, guess in zip(self.alive, guesses, strict=True)]
        logits = self.rows.read(range(len(self.alive)), news, keep=width + 1)
        before = [len(reply.ids) for reply in self.alive]
        going = list(range(len(self.alive)))
        for column in range(width + 1):
            after = logits[:, column]
            self._draw(going, after if len(going) == len(after) else after[going])
            if column < width:
                right = [place for place in going if self.alive[place].ids[-1:] == [guesses[place][column]]]
                going = [place for place in right if not self._ended(self.alive[place])]
            if not going:
                break
        if width:  # what the rows hold of guesses that came to nothing is written over
            for place, reply in enumerate(self.alive):
                self.rows.cut(place, len(reply.request.prompt) + len(reply.ids) - 1)
        return self._leave(range(len(self.alive)), before)

    def _guessed(self) -> list[list[int]]:
        """Guesses for each reply, equally many: a guess that was not made is one that does not come true."""
        if not self.drafter:
            return [[] for _ in self.alive]
        uniforms = [reply.uniforms[len(reply.ids) :] for reply in self.alive]
        news = [reply.ids[-1] for reply in self.alive]
        samplings = [reply.request.sampling for reply in self.alive]
        guesses = self.drafter.guess(self.rows, news, uniforms, samplings)
        room = min(map(len, uniforms)) - 1
        width = min(room, max(map(len, guesses)))
        return [(guess + [0] * width)[:width] for guess in guesses]

    def _draw(self, places: Sequence[int], logits: Tensor) -> None:
        """Draw the next id of the replies in these rows from logits (B, V)."""
        replies = [self.alive[place] for place in places]
        uniforms = torch.from_numpy(np.array([reply.uniforms[len(reply.ids)] for reply in replies]))
        adjusted = self._adjusted(places, logits)
        stuck = [False] * len(places)
        if adjusted is not None:
            nothing = (adjusted == -torch.inf).all(1, keepdim=True)
            adjusted, stuck = adjusted.masked_fill(nothing, 0.0), nothing[:, 0].tolist()
        samplings = [reply.request.sampling for reply in replies]
        ids, logprobs = choose(logits, uniforms.to(logits.device), samplings, adjusted)
        best = likeliest(logits, samplings, [reply.request.best for reply in replies])
        drawn = zip(places, replies, ids.tolist(), logprobs.tolist(), stuck, best, strict=True)
        for place, reply, id, logprob, nothing, told in drawn:
            guide = reply.request.guide
            if nothing or (guide is not None and guide.failure is not None):
                self._end(reply, "stuck")
                continue
            reply.ids.append(id)
            reply.logprobs.append(logprob)
            if reply.request.best:
                reply.best.append(told)
            if self.penalties:
                self.penalties.take(place, id)
            if guide is not None:
                guide.take(id)
            if finish := self._finish(reply):
                self._end(reply, finish)

    def _adjusted(self, places: Sequence[int], logits: Tensor) -> Tensor | None:
        """The logits after penalties, -inf for what may not come; None where nothing changes."""
        replies = [self.alive[place] for place in places]
        found = self.penalties.adjusted(places, logits) if self.penalties else logits
        guides = [reply.request.guide for reply in replies]
        early = [  # a grammar says itself where a reply may end
            row
            for row, (reply, guide) in enumerate(zip(replies, guides, strict=True))
            if len(reply.ids) + 1 < reply.request.sampling.min_new and guide is None
        ]
        if early and self.stop:
            found = found.clone()
            found[[[row] for row in early], list(self.stop)] = -torch.inf
        if any(guide is not None for guide in guides):
            from turnsmith.sample.guides import restricted

            found = restricted(found, guides)
        return None if found is logits else found

    # --------------------------------------------------------------------------------- those that have ended

    def _finish(self, reply: _Reply) -> Finish | None:
        """Why a reply has ended, if it has."""
        request = reply.request
        if reply.ids[-1] in self.stop:
            return "stop"
        if request.ends and len(reply.ids) >= request.sampling.min_new and request.ends(reply.ids):
            return "stop"
        return "length" if len(reply.ids) == request.sampling.max_new else None

    def _end(self, reply: _Reply, finish: Finish) -> None:
        self.completions[reply.request.number] = Completion(
            tuple(reply.ids), tuple(reply.logprobs), finish, tuple(reply.best)
        )

    def _ended(self, reply: _Reply) -> bool:
        return reply.request.number in self.completions

    def _leave(self, places: Sequence[int], before: Sequence[int] | None = None) -> News:
        """What the replies in these rows got, of which `before` were there; then those under way are put into
        the first rows. What the others hold is kept until their rows are needed."""
        starts = before or [0] * len(places)
        told: News = [
            (self.alive[place].request.number, tuple(self.alive[place].ids[start:]))
            for place, start in zip(places, starts, strict=True)
        ]
        place = 0
        while place < len(self.alive):
            if not self._ended(self.alive[place]):
                place += 1
                continue
            last = len(self.alive) - 1
            self._swap(place, last)
            self.alive[place] = self.alive[last]
            self.alive.pop()
        return told

    def _swap(self, one: int, other: int) -> None:
        if one == other:
            return
        for table in (self.rows, self.penalties, self.drafter):
            if table is not None:
                table.swap(one, other)
