"""Replies on their way to the store: nothing is sent before it is kept."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from sqlalchemy.orm import Session

from turnsmith.errors import StorageError
from turnsmith.serve.store import recovering, talks
from turnsmith.serve.store.tables import fresh
from turnsmith.serve.store.talks import Ended, Made, Who
from turnsmith.serve.store.writing import Store
from turnsmith.types import Conversation, Message

Given = TypeVar("Given")
PATIENCE = 5.0  # seconds that a request waits for a database that is away, before it is refused
LASTING = 30.0  # seconds that a reply under way waits for it


class Kept(Protocol):
    """The replies to one request. ids: of their messages; none where nothing is kept."""

    ids: Sequence[str]

    async def piece(self, number: int, text: str) -> None:
        """Keep what has come of a reply; it may be sent afterwards."""
        ...

    async def ended(self, number: int, said: Message, finish: str, flagged: str | None = None) -> None:
        """Keep a reply as it came out."""
        ...

    def close(self) -> None:
        """Nobody waits any more: replies that have not ended are left as they are."""
        ...


class Unkept:
    """Of a request that nothing is kept of."""

    ids: Sequence[str] = ()

    async def piece(self, number: int, text: str) -> None:
        """Nothing."""

    async def ended(self, number: int, said: Message, finish: str, flagged: str | None = None) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Keeping:
    """Keeps what is said in a store; pieces that come at once, of all who ask, are one write."""

    def __init__(self, store: Store, *, patience: float = PATIENCE, lasting: float = LASTING) -> None:
        self.store, self.patience, self.lasting = store, patience, lasting
        self._lock = threading.Lock()
        self._batch: _Pieces | None = None

    async def begun(
        self, who: Who, conversations: Sequence[Conversation], made: Made, *, tag: str | None = None
    ) -> Kept:
        """Keep what was said, and a reply to each that begins now. Raises StorageError where the store does
        not answer in time, and DataError for what cannot be kept."""
        ids = [fresh() for _ in conversations]

        def keep(session: Session) -> None:
            for conversation, id in zip(conversations, ids, strict=True):
                talks.begun(session, who, conversation, made, ids=[id], writer=self.store.id, tag=tag)

        kept = _Kept(self, ids)
        try:
            await self.done(keep)
        except BaseException:  # it may be written later: then as what was not answered
            kept.close()
            raise
        return kept

    async def done(self, work: Callable[[Session], Given], seconds: float | None = None) -> Given:
        """Write this; what it gives. It is written later where the time is over."""
        return await self._awaited(self.store.write(work), self.patience if seconds is None else seconds)

    async def read(self, work: Callable[[Session], Given]) -> Given:
        """What is there, read beside the event loop."""
        return await asyncio.to_thread(self.store.read, work)

    async def came(self, id: str, number: int, text: str) -> None:
        """Keep a piece of a reply."""
        with self._lock:
            if self._batch is None:
                batch = self._batch = _Pieces()
                batch.written = self.store.write(lambda s: talks.came(s, self._taken(batch)))
            self._batch.rows.append((id, number, text))
            written = self._batch.written
        await self._awaited(written, self.lasting)

    def _taken(self, batch: _Pieces) -> list[tuple[str, int, str]]:
        """The pieces of a batch, which takes no more from now on."""
        with self._lock:
            if self._batch is batch:
                self._batch = None
            return batch.rows

    async def _awaited(self, written: Future[Given], seconds: float) -> Given:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(written), seconds)
        except TimeoutError:
            away = self.store.away or f"the database {self.store.name} does not answer"
            raise StorageError(f"{away}: nothing can be kept, so nothing is answered") from None


@dataclass
class _Pieces:
    """Pieces that are written together."""

    rows: list[tuple[str, int, str]] = field(default_factory=list[tuple[str, int, str]])
    written: Future[None] = field(default_factory=Future[None])


class _Kept:
    """Replies that are kept under these ids."""

    def __init__(self, of: Keeping, ids: Sequence[str]) -> None:
        self.ids, self._of = ids, of
        self._begun = time.monotonic()
        self._pieces = [0] * len(ids)
        self._open = set(range(len(ids)))

    async def piece(self, number: int, text: str) -> None:
        at, self._pieces[number] = self._pieces[number], self._pieces[number] + 1
        await self._of.came(self.ids[number], at, text)

    async def ended(self, number: int, said: Message, finish: str, flagged: str | None = None) -> None:
        self._open.discard(number)
        how = Ended(said, finish, time.monotonic() - self._begun, flagged=flagged)
        await self._of.done(lambda s: talks.ended(s, self.ids[number], how), self._of.lasting)

    def close(self) -> None:
        left, self._open = [self.ids[number] for number in self._open], set[int]()
        for id in left:
            with suppress(StorageError):  # the next server ends them
                self._of.store.write(lambda s, id=id: recovering.end(s, id, state="cancelled"))
