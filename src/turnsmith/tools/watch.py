"""A program while it runs: what it writes is taken within bounds, and it is ended when a limit is reached."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from turnsmith.tools.sandbox import Limits

START, END = 60.0, 10.0  # seconds that a busy machine may take to begin, and to end, a program
SAID = 2**16  # bytes of what the encloser says at most


@dataclass
class Watch:
    """What is known of a program while it runs."""

    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)
    said: bytearray = field(default_factory=bytearray)
    started: float | None = None
    ended: float | None = None
    closed: float = 0.0
    broken: Literal["time", "output"] | None = None

    def lines(self, word: str) -> list[str]:
        """What the encloser said under this word."""
        lines = self.said.decode("utf-8", "backslashreplace").splitlines()
        return [line.removeprefix(word).strip() for line in lines if line.split(" ")[0] == word]


def watched(command: Callable[[int], Sequence[str]], stdin: Path, limits: Limits) -> Watch:
    """Start the encloser, read what comes, and end it when a limit is reached.

    command: what starts it, given the descriptor that it writes its lines to.
    """
    read, write = os.pipe()
    with stdin.open("rb") as given, os.fdopen(read, "rb", 0) as status:
        try:
            process = subprocess.Popen(
                command(write), stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={},
                cwd="/", bufsize=0, pass_fds=[write], start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(write)
        watch = Watch()
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            pipes = {process.stdout.fileno(): watch.out, process.stderr.fileno(): watch.err}
            _read({**pipes, status.fileno(): watch.said}, watch, limits, process.terminate)
        finally:
            watch.closed = time.monotonic()
            _ended(process)
        return watch


def _read(pipes: dict[int, bytearray], watch: Watch, limits: Limits, end: Callable[[], None]) -> None:
    """Take what comes until all pipes are closed; after a limit, what still comes is let go."""
    until = time.monotonic() + START
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, until - time.monotonic())):
                chunk = os.read(key.fd, 2**16)
                if not chunk:
                    selector.unregister(key.fd)
                taken = pipes[key.fd]
                room = (SAID if taken is watch.said else limits.output_bytes) - len(taken)
                taken += chunk[:room]
                if len(chunk) > room and watch.broken is None:
                    watch.broken, until = "output", time.monotonic() + END
                    end()
            now = time.monotonic()
            if watch.started is None and b"started\n" in watch.said:
                watch.started, until = now, now + limits.seconds
            if watch.ended is None and b"\nended " in watch.said:
                watch.ended = now
            if now >= until and watch.broken is not None:
                return
            if now >= until:
                watch.broken, until = "time", now + END
                end()


def _ended(process: subprocess.Popen[bytes]) -> None:
    """Be sure that nothing is left: the encloser ends what it enclosed, and is ended if it does not."""
    try:
        if process.poll() is None:
            process.terminate()
        process.wait(END)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own group, which the program has left
        process.wait()
    finally:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
