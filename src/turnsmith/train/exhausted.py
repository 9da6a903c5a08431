"""Memory that runs out: an error that says how far a training came, and what would need less."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from turnsmith.errors import TrainingError
from turnsmith.train import checkpoint
from turnsmith.train.room import FILE

# What torch says on CUDA and MPS, on Linux and macOS, and on Windows.
SAID = ("out of memory", "can't allocate memory", "not enough memory")
LOADING = "a smaller model or start, or frozen weights of half the bytes (fit.dtype: bfloat16)"


@contextmanager
def exhausted(directory: Path, step: str) -> Iterator[None]:
    """Raise TrainingError of the training in the directory where memory runs out while this is open.

    Checkpoints are left as they are. Who is killed for memory cannot say so: the next attempt does.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(words in str(error).lower() for words in SAID):
            raise TrainingError(_told(directory, step, error)) from error
        raise


def _told(directory: Path, step: str, error: Exception) -> str:
    kept, room = checkpoint.newest(directory / "checkpoints"), directory / FILE
    ways = json.loads(room.read_text("utf-8")).get("ways") if room.exists() else None
    on = (
        f"Step {kept} is kept, and with more memory the same command goes on from there"
        if kept
        else "No checkpoint was written yet"
    )
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return f"train {step}: memory ran out ({first}). What would save: {'; '.join(ways or [LOADING])}. {on}"
