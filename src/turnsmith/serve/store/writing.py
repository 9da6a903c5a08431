"""One thread that writes: what many ask for at once is one transaction, and a database that is away is waited
for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Engine, delete, insert, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from turnsmith.errors import StorageError, TurnsmithError
from turnsmith.serve.store import recovering
from turnsmith.serve.store.opening import is_away, opened, reason, shown, telling
from turnsmith.serve.store.tables import Writer, fresh

Given = TypeVar("Given")
MOST = 512  # operations in one transaction
HELD = 20_000  # operations that wait for a database that is away
PAUSE, LONGEST = 0.05, 2.0  # seconds before the next try, doubled from the one to the other
BEAT = 2.0  # seconds between signs that this process is there
STALE = 5 * BEAT  # without one for so long a process is dead


@dataclass
class _Asked:
    """An operation that waits for its turn."""

    work: Callable[[Session], Any]
    given: Future[Any] = field(default_factory=Future[Any])


class Store:
    """A database that is read by anyone and written by one thread of this process.

    What `write` was given is in the database, whole, when its Future has a result. Where the database is
    away, operations wait in their order and are tried again; `away` says why, meanwhile.
    """

    def __init__(self, url: str, *, beat: float = BEAT, stale: float = STALE) -> None:
        self.engine: Engine = opened(url)
        self.id, self.beat, self.stale = fresh(), beat, stale
        self.away: str | None = None
        self._turn = threading.Condition()
        self._asked: deque[_Asked] = deque()
        self._closed = False
        self._beaten = 0.0
        self._thread = threading.Thread(target=self._run, name="writing", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The database without its password."""
        return shown(self.engine.url)

    def write(self, work: Callable[[Session], Given]) -> Future[Given]:
        """Do this in a transaction of its own or with others; it may be tried more than once. Raises
        StorageError where too much waits already, or after `close`."""
        asked = _Asked(work)
        asked.given.set_running_or_notify_cancel()  # who waits no more does not take it back
        with self._turn:
            if self._closed:
                raise StorageError(f"the database {self.name} was closed")
            if len(self._asked) >= HELD:
                raise StorageError(f"the database {self.name} does not answer, and {HELD} writes wait for it")
            self._asked.append(asked)
            self._turn.notify()
        return asked.given

    def read(self, work: Callable[[Session], Given]) -> Given:
        """What is there, as of one moment. Raises StorageError where the database is away."""
        with telling(self.engine.url), Session(self.engine) as session:
            return work(session)

    def close(self) -> None:
        """Write what waits, if the database is there, and end."""
        with self._turn:
            self._closed = True
            self._turn.notify()
        self._thread.join()
        self.engine.dispose()

    # ------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            self._done(batch)
        self._leave()

    def _next(self) -> list[_Asked] | None:
        """What is to be done together; None at the end."""
        with self._turn:
            if not self._asked and not self._closed:
                self._turn.wait(max(0.0, self._beaten + self.beat - time.time()))
            if self._closed and not self._asked:
                return None
            return [self._asked.popleft() for _ in range(min(MOST, len(self._asked)))]

    def _done(self, batch: list[_Asked]) -> None:
        """Do all of it in one transaction; where that fails, one after the other, so that each fails for
        itself."""
        try:
            results = self._tried([asked.work for asked in batch])
        except Exception as error:  # noqa: BLE001 - it goes to who asked
            if len(batch) == 1:
                batch[0].given.set_exception(error)
            for asked in batch if len(batch) > 1 else []:
                self._done([asked])
            return
        for asked, result in zip(batch, results, strict=True):
            asked.given.set_result(result)

    def _tried(self, work: list[Callable[[Session], Any]]) -> list[Any]:
        """The results, once the transaction is there; tried until the database answers, or this is closed."""
        pause = PAUSE
        while True:
            try:
                with Session(self.engine.execution_options(writes=True)) as session, session.begin():
                    results = [one(session) for one in work]
                    beaten = self._beat(session)
            except DBAPIError as error:
                if not is_away(error):
                    raise
                self.away = f"the database {self.name} does not answer: {reason(error)}"
                if self._waited(pause):
                    raise StorageError(self.away) from None
                pause = min(2 * pause, LONGEST)
            else:
                self.away, self._beaten = None, beaten
                return results

    def _waited(self, seconds: float) -> bool:
        """Wait; whether this was closed meanwhile."""
        with self._turn:
            self._turn.wait_for(lambda: self._closed, seconds)
            return self._closed

    def _beat(self, session: Session) -> float:
        """Say that this process is there, now and then, and end what dead ones left. When it did so last."""
        now = time.time()
        if now < self._beaten + self.beat:
            return self._beaten
        if session.get(Writer, self.id) is None:
            session.execute(insert(Writer).values(id=self.id, beat=now))
        session.execute(update(Writer).where(Writer.id == self.id).values(beat=now))
        recovering.left_behind(session, before=now - self.stale)
        return now

    def _leave(self) -> None:
        with suppress(DBAPIError, TurnsmithError), Session(self.engine) as session, session.begin():
            session.execute(delete(Writer).where(Writer.id == self.id))
