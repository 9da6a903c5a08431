"""States of a run on disk: written aside, flushed, renamed; a torn one is seen and the one before it is
used."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from turnsmith.errors import StorageError
from turnsmith.phases import phase
from turnsmith.shelf import file_digest, flush
from turnsmith.train.shard import gathered, like, scattered, whole

KEPT = 2
LEAST = 2**20  # bytes: with less left free, a write that failed has failed for want of space
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)  # nothing may be written, however much is free
SUMS = "sums.json"  # the digest of every other file of a checkpoint
FILES = {"learning.safetensors", "optimizer.pt", "state.json"}


@phase("checkpoint")
def save(
    directory: Path,
    step: int,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    best: Mapping[str, torch.Tensor] | None = None,
    *,
    writes: bool = True,
) -> None:
    """Write `step-N` into `directory`; drop all but it and the one before.

    writes: whether this process does. Where each holds a part of the parameters, all have to call this; what
    is written is whole, so that any number of processes can go on from it. What is there of later steps was
    broken, or the run had gone on from it. Raises StorageError where the disk is full or cannot be written,
    and leaves what was there.
    """
    from safetensors import SafetensorError

    learning = {name: whole(p.detach()).contiguous() for name, p in parameters.items()}
    own = gathered(optimizer)
    kept = None if best is None else {name: whole(value).contiguous() for name, value in best.items()}
    if not writes:
        return
    final, aside = directory / f"step-{step:07d}", directory / f"step-{step:07d}.partial"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        _write(aside, learning, own, {"step": step, **state}, kept)
        _remove(final)
        aside.rename(final)
        flush(directory)
    except (OSError, RuntimeError, SafetensorError) as error:  # a full disk is a RuntimeError to torch
        failure = _storage(error, directory)
        shutil.rmtree(aside, ignore_errors=True)
        raise failure from None
    others = [path for path in _found(directory) if path != final]
    before = [path for path in others if path < final]
    for path in others:
        if path not in before[-(KEPT - 1) :]:
            _remove(path)


def newest(directory: Path) -> int:
    """The step of the newest whole checkpoint; 0 where there is none."""
    return next((int(path.name[5:]) for path in reversed(_found(directory)) if not _fault(path)), 0)


def chosen(directory: Path) -> list[str] | None:
    """What learned at the newest whole checkpoint, where that is written down; None where it is not."""
    whole = (path for path in reversed(_found(directory)) if not _fault(path))
    return next((json.loads((path / "state.json").read_text()).get("learns") for path in whole), None)


def load(
    directory: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, torch.Tensor] | None] | None:
    """Put the newest whole checkpoint into `parameters` and `optimizer`; gives its state and best weights.

    None where there is none. A broken one is named on stderr and left alone; the one before it is taken.
    Raises StorageError where a file stands in the place of the directory.
    """
    from safetensors.torch import load_file

    if directory.exists() and not directory.is_dir():
        raise StorageError(f"{directory} holds the checkpoints, and is a file: remove it and run again")
    for path in reversed(_found(directory)):
        fault = _fault(path)
        if fault:
            print(f"checkpoint {path} is broken ({fault}): going back to the one before", file=sys.stderr)
            continue
        stored = load_file(path / "learning.safetensors")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.data = parameter.data.to(stored[name].dtype)  # it may have learned before it froze
                parameter.copy_(like(stored[name], parameter))
        own = torch.load(path / "optimizer.pt", weights_only=True)
        optimizer.load_state_dict(scattered(own, optimizer))
        file = path / "best.safetensors"
        best = load_file(file) if file.exists() else None
        if best is not None:
            best = {name: like(value, parameters[name]) for name, value in best.items()}
        return json.loads((path / "state.json").read_text()), best
    return None


def _write(
    aside: Path,
    learning: dict[str, torch.Tensor],
    optimizer: Mapping[str, Any],
    state: Mapping[str, Any],
    best: dict[str, torch.Tensor] | None,
) -> None:
    """All files into `aside`, with the digest of each in SUMS, and on the disk."""
    from safetensors.torch import save_file

    save_file(learning, aside / "learning.safetensors")
    if best is not None:
        save_file(best, aside / "best.safetensors")
    torch.save(dict(optimizer), aside / "optimizer.pt")
    (aside / "state.json").write_text(json.dumps(state))
    (aside / SUMS).write_text(json.dumps({file.name: file_digest(file) for file in sorted(aside.iterdir())}))
    for file in (*aside.iterdir(), aside):
        flush(file)


def _found(directory: Path) -> list[Path]:
    return sorted(p for p in directory.glob("step-*") if p.suffix != ".partial")


def _remove(path: Path) -> None:
    """Take away a checkpoint, or a file that has its name."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _fault(path: Path) -> str | None:
    try:
        sums = json.loads((path / SUMS).read_text())
        if not set(sums) >= FILES:
            return f"{SUMS} is not what was written"
        for name, expected in sums.items():
            if file_digest(path / name) != expected:
                return f"{name} is not what was written"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _storage(error: Exception, directory: Path) -> StorageError:
    """What the error means; asked while the torn files still fill the disk."""
    number = error.errno if isinstance(error, OSError) else None
    disk = directory if directory.exists() else directory.anchor
    full = number in (errno.ENOSPC, errno.EDQUOT)
    if full or (number not in REFUSED and shutil.disk_usage(disk).free < LEAST):
        return StorageError(
            f"the disk is full: a checkpoint could not be written to {directory}. The one before is whole; "
            "free some space and give the same command to go on"
        )
    return StorageError(
        f"a checkpoint could not be written to {directory}: {error}. The one before is whole; the same "
        "command goes on from it"
    )
