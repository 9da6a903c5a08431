"""One engine that many ask at once: a thread draws on all replies under way, and who comes joins them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from turnsmith.errors import TurnsmithError
from turnsmith.sample.engine import LocalEngine
from turnsmith.sample.joining import Joining
from turnsmith.types import Completion

T = TypeVar("T")


class Busy(TurnsmithError):
    """As many wait for a reply as may."""


class Coming:
    """A reply under way: an iterator over the ids that come, in the event loop that asked for it.

    completion: once the iterator has ended. Raises there what went wrong.
    """

    def __init__(self, of: Batching, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.completion: Completion | None = None
        self._of, self._loop = of, asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, ...] | Completion | Exception] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[int]:
        while self.completion is None:
            told = await self._queue.get()
            if isinstance(told, Exception):
                raise told
            if isinstance(told, Completion):
                self.completion = told
                return
            for id in told:
                yield id

    async def whole(self) -> Completion:
        """The reply, when it has ended."""
        async for _ in self:
            pass
        assert self.completion is not None
        return self.completion

    def cancel(self) -> None:
        """Nobody waits for it any more; what was drawn so far is dropped."""
        if self.completion is None:
            self._of.cancel(self)

    def tell(self, told: tuple[int, ...] | Completion | Exception) -> None:
        """Hand this over to the event loop; from the thread that draws."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, told)


class Batching:
    """Replies of `engine`, `rows` of them at once, each with its prompt of at most `capacity` tokens. Where
    `waiting` more wait for a row, who asks is refused with Busy."""

    def __init__(
        self, engine: LocalEngine, *, rows: int = 16, capacity: int = 4096, waiting: int = 64
    ) -> None:
        self.engine, self.rows, self.capacity, self.waiting = engine, rows, capacity, waiting
        self._turn = threading.Condition()
        self._asked: list[Coming] = []
        self._left: set[Coming] = set()
        self._works: list[tuple[Callable[[Joining], Any], Future[Any]]] = []
        self._under_way: dict[int, Coming] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._draw, name="drawing", daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """How many replies are under way or waited for."""
        return len(self._asked) + len(self._under_way) + len(self._works)

    def ask(self, prompt: tuple[int, ...], **asked: Any) -> Coming:
        """A reply; the arguments are those of `Joining.ask`. Raises Busy where too many wait."""
        with self._turn:
            self._find_place()
            coming = Coming(self, {"prompt": prompt, **asked})
            self._asked.append(coming)
            self._turn.notify()
        return coming

    def between(self, work: Callable[[Joining], T]) -> asyncio.Future[T]:
        """What this work comes to, which the thread that draws does between two tokens. Raises Busy where
        too many wait; what the work raises is raised where it is awaited."""
        found: Future[T] = Future()
        with self._turn:
            self._find_place()
            self._works.append((work, found))
            self._turn.notify()
        return asyncio.wrap_future(found)

    def _find_place(self) -> None:
        if self.count >= self.rows + self.waiting:
            raise Busy(f"{self.waiting} requests wait already")

    def cancel(self, coming: Coming) -> None:
        """End a reply as it is."""
        with self._turn:
            self._left.add(coming)
            self._turn.notify()

    def close(self) -> None:
        """End all replies, and the thread."""
        with self._turn:
            self._closed = True
            self._turn.notify()
        self._thread.join()

    def _draw(self) -> None:
        joining: Joining | None = None
        while (turn := self._turn_comes()) is not None:
            asked, left = turn
            try:
                joining = joining or Joining(self.engine, self.rows, self.capacity)
                self._work(joining)
                self._begin(joining, asked, left)
                self._go_on(joining, left)
            except Exception as error:  # noqa: BLE001 - whatever is wrong goes to all who wait for it
                self._fail(error, asked)
                joining = None
        closing = TurnsmithError("the server is closing")
        self._fail(closing, self._asked)
        for _, found in self._works:
            if found.set_running_or_notify_cancel():
                found.set_exception(closing)

    def _turn_comes(self) -> tuple[list[Coming], set[Coming]] | None:
        """Who has asked and who has left since the last turn, once there are any; None at the end."""
        with self._turn:
            while not (self._asked or self._left or self._under_way or self._works or self._closed):
                self._turn.wait()
            if self._closed:
                return None
            asked, self._asked = self._asked, []
            left, self._left = self._left, set()
            return asked, left

    def _work(self, joining: Joining) -> None:
        """Do the first work that waits, if there is one."""
        with self._turn:
            work, found = self._works.pop(0) if self._works else (None, None)
        if work is None or found is None or not found.set_running_or_notify_cancel():
            return
        try:
            found.set_result(work(joining))
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            found.set_exception(error)

    def _begin(self, joining: Joining, asked: list[Coming], left: set[Coming]) -> None:
        """Let those begin who are still there; takes them off the list."""
        while asked:
            coming = asked.pop(0)
            if coming in left:
                coming.tell(Completion((), (), "cancelled"))
                continue
            try:
                self._under_way[joining.ask(**coming.asked)] = coming
            except TurnsmithError as error:
                coming.tell(error)

    def _go_on(self, joining: Joining, left: set[Coming]) -> None:
        """End what nobody waits for, draw on, and hand over what has come."""
        gone = [number for number, coming in self._under_way.items() if coming in left]
        ended = joining.cancel(gone) if gone else {}
        if joining.running:
            told, finished = joining.step()
            ended |= finished
            for number, ids in told:
                self._under_way[number].tell(ids)
        for number, completion in ended.items():
            self._under_way.pop(number).tell(completion)

    def _fail(self, error: Exception, others: list[Coming]) -> None:
        """Say to all who wait, and to these others, why nothing comes."""
        for coming in [*self._under_way.values(), *others]:
            coming.tell(error)
        self._under_way = {}
