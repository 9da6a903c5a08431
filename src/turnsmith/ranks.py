"""The processes of one run. `torchrun` or `accelerate launch` starts them, each with the whole command: the
main one makes what one can make, while the others wait for its word; all of them train."""

from __future__ import annotations

import atexit
import functools
import gc
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any

from turnsmith.errors import UsageError

PATIENCE = timedelta(days=30)  # a dead process ends the others through whoever started them
_apart = ContextVar("apart", default=False)  # whether the others do not take part in what is done now


def world() -> int:
    """How many processes work together, as whoever started this one says."""
    return 1 if _apart.get() else int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0")) if world() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that prints and writes."""
    return rank() == 0


def join() -> None:
    """Meet the other processes, where there are to be any. Raises UsageError where some do not come."""
    if world() > 1:
        _line()


def joined(count: int) -> None:
    """These `count` processes have met, and part when this one ends.

    Raises UsageError where others were started: each would work alone.
    """
    if (asked := int(os.environ.get("WORLD_SIZE", "1"))) != count:
        raise UsageError(
            f"WORLD_SIZE says {asked} processes, {count} joined: start with torchrun or accelerate, or unset "
            "WORLD_SIZE"
        )
    if count > 1:
        atexit.unregister(part)
        atexit.register(part)


def part() -> None:
    """Leave the groups of processes, whose threads end with the last reference to their group. One of gloo
    that holds a tensor when the interpreter is gone aborts the process."""
    import torch.distributed as distributed

    _line.cache_clear()
    gc.collect()
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def by_itself() -> Generator[None]:
    """What is done within, this process does without the others, which wait."""
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


def told(word: bool = False) -> bool:
    """The main process's word, on all processes; who comes first waits for it, as long as it takes."""
    if world() == 1:
        return word
    import torch
    import torch.distributed as distributed

    said = torch.tensor([float(word)])
    distributed.broadcast(said, 0, group=_line())
    return bool(said)


@contextmanager
def main_first() -> Generator[None]:
    """The main process goes through what is within, and writes its files; then the others, who find them."""
    if not is_main():
        told()
    yield
    if is_main():
        told()


@contextmanager
def silent() -> Generator[None]:
    """Nothing is printed within but by the main process."""
    if is_main():
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def complain(text: str) -> None:
    """To standard error, from any process; one that is not the main one says which it is."""
    print(
        text if is_main() else f"process {rank()}: {text}",
        file=sys.stderr if is_main() else sys.__stderr__,
        flush=True,
    )


@functools.cache
def _line() -> Any:
    """The group of all processes over which the main one speaks: on the CPU, and patient, since what it makes
    meanwhile may take hours."""
    import torch
    import torch.distributed as distributed
    from accelerate import PartialState

    joined(PartialState(cpu=not torch.cuda.is_available()).num_processes)
    return distributed.new_group(backend="gloo", timeout=PATIENCE)
