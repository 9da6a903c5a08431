"""An attempt that ended without a word leaves its mark, and the next one says so."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from turnsmith import ranks
from turnsmith.shelf import write_text
from turnsmith.train import checkpoint
from turnsmith.train.record import CLOCK

MARK = "running"  # there while an attempt is under way: who is killed cannot take it away


@contextmanager
def attempt(directory: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Mark the directory of a training while this is open; tell of an attempt before that was killed.

    A signal that nobody can catch leaves no other trace; the kernel sends it where memory runs out. Of
    several processes the first one keeps the mark.
    """
    if not ranks.is_main():
        yield
        return
    mark = directory / MARK
    if mark.exists():
        tell(_ended(directory))
    write_text(mark, str(os.getpid()))
    try:
        yield
    finally:  # an error and a gentle stop have said for themselves what there is to say
        mark.unlink(missing_ok=True)


def _ended(directory: Path) -> str:
    """How far the attempt came, what it held then, and from where this one goes on."""
    clock, kept = _last(directory / CLOCK), checkpoint.newest(directory / "checkpoints")
    if clock is None:
        where, why = "before its first step", "perhaps for want of memory"
    else:
        held = clock.get("device_memory_gib", clock["memory_gib"])
        where, why = f"after step {clock['step']}", f"perhaps for want of memory: it had held {held:.1f} GiB"
    on = f"going on from step {kept}" if kept else "beginning anew"
    return f"the last attempt ended without a word {where}, {why}; {on}"


def _last(file: Path) -> dict[str, Any] | None:
    """The last whole row; a kill may have torn the one after it."""
    lines = file.read_text("utf-8", errors="replace").splitlines(keepends=True) if file.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    return json.loads(whole[-1]) if whole else None
