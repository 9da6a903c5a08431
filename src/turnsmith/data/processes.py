"""Work dealt out to processes of their own; what comes of it is in the order of the tasks."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from turnsmith.errors import TrainingError, TurnsmithError

T = TypeVar("T")
R = TypeVar("R")


def usable_cores() -> float:
    """Cores that this process may use: by its affinity, and by the quota of its control group."""
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    limits = Path("/sys/fs/cgroup/cpu.max")
    quota = limits.read_text("utf-8").split() if limits.is_file() else []
    if len(quota) == 2 and quota[0].isdecimal():
        return min(count, int(quota[0]) / int(quota[1]))
    return count


def in_order(work: Callable[[T], R], tasks: Sequence[T], processes: int) -> Iterator[R]:
    """What `work` gives for each task. Everything must be picklable; each process gets `work` once.

    A TurnsmithError in a process is raised here, that of the earliest task first. The processes end with this
    one, however it ends. They import nothing of the program that calls this: it needs no guard.
    """
    workers = [_Worker(work) for _ in range(min(processes, len(tasks)))]
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def done(task: T) -> R:
        worker = idle.get()
        try:
            return worker.ask(task)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(max(1, len(workers)))
    try:
        yield from threads.map(done, tasks)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.end()
        threads.shutdown()


class _Worker:
    """A process that was given its work, and is asked for one task after the other."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from turnsmith.data.processes import serve; serve()"
        alone = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **alone},
        )
        self._work: Callable[[Any], Any] | None = work

    def ask(self, task: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            if self._work is not None:
                pickle.dump(self._work, self._process.stdin)
                self._work = None
            pickle.dump(task, self._process.stdin)
            self._process.stdin.flush()
            error, result = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise TrainingError(_ended(self._process.wait())) from None
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass


def _ended(code: int) -> str:
    why = (
        "it was killed, perhaps since memory ran out"
        if code == -signal.SIGKILL
        else f"exit code {code}, and what it said stands above"
    )
    return f"a process that prepares tokens ended before its time ({why}). The same command goes on"


def serve() -> None:
    """In a process of its own: take the work and then tasks from stdin until it closes, answer on stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this one decides when it ends
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed must not come between the answers
    try:
        work: Callable[[Any], Any] = pickle.load(sys.stdin.buffer)
        while True:
            task = pickle.load(sys.stdin.buffer)
            try:
                answer = None, work(task)
            except TurnsmithError as error:
                answer = error, None
            pickle.dump(answer, answers)
            answers.flush()
    except (EOFError, BrokenPipeError):
        os._exit(0)  # it is gone: nobody is left to tell
