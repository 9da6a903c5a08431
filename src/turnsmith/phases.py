"""Where a run is: a line in a file whenever a phase of it begins or ends, for who watches it or kills it."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

LOG = "TURNSMITH_PHASES"  # names the file; nothing is written where it is not set


@contextmanager
def phase(name: str) -> Generator[None]:
    """Notes that the phase begins and ends, however it ends. Phases may hold others.

    A line is `TIME PROCESS begin NAME` or `TIME PROCESS end NAME`, with the time in UTC.
    """
    _note("begin", name)
    try:
        yield
    finally:
        _note("end", name)


def each(name: str, numbers: Iterable[int]) -> Iterator[int]:
    """The numbers; what is done with each of them is a phase of this name."""
    for number in numbers:
        with phase(name):
            yield number


def _note(event: str, name: str) -> None:
    """One line, handed to the system in one piece, so that a kill leaves it whole or not at all."""
    file = os.environ.get(LOG)
    if not file:
        return
    now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="microseconds")
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(handle, f"{now} {os.getpid()} {event} {name}\n".encode())
    finally:
        os.close(handle)
