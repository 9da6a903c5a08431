"""States of a run on disk: written aside, flushed, renamed; a torn one is seen and the one before it is
used."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from turnsmith.errors import StorageError

KEPT = 2


def save(
    directory: Path,
    step: int,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    best: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write `step-N` into `directory` and drop all but the newest two."""
    from safetensors.torch import save_file

    final, aside = directory / f"step-{step:07d}", directory / f"step-{step:07d}.partial"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        save_file(
            {name: p.detach().contiguous() for name, p in parameters.items()}, aside / "learning.safetensors"
        )
        if best is not None:
            save_file({name: value.contiguous() for name, value in best.items()}, aside / "best.safetensors")
        torch.save(optimizer.state_dict(), aside / "optimizer.pt")
        sums = {file.name: _digest(file) for file in sorted(aside.iterdir())}
        (aside / "state.json").write_text(json.dumps({"step": step, "sums": sums, **state}))
        for file in aside.iterdir():
            _flush(file)
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
        _flush(directory)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise _storage(error, directory) from None
    for old in _found(directory)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load(
    directory: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, torch.Tensor] | None] | None:
    """Put the newest whole checkpoint into `parameters` and `optimizer`; gives its state and best weights.

    None where there is none. A broken one is named on stderr and left alone; the one before it is taken.
    """
    from safetensors.torch import load_file

    for path in reversed(_found(directory)):
        fault = _fault(path)
        if fault:
            print(f"checkpoint {path} is broken ({fault}): going back to the one before", file=sys.stderr)
            continue
        stored = load_file(path / "learning.safetensors")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(stored[name])
        optimizer.load_state_dict(torch.load(path / "optimizer.pt", weights_only=True))
        best = path / "best.safetensors"
        return json.loads((path / "state.json").read_text()), load_file(best) if best.exists() else None
    return None


def _found(directory: Path) -> list[Path]:
    return sorted(p for p in directory.glob("step-*") if p.suffix != ".partial")


def _fault(path: Path) -> str | None:
    try:
        sums = json.loads((path / "state.json").read_text())["sums"]
        for name, expected in sums.items():
            if _digest(path / name) != expected:
                return f"{name} is not what was written"
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _storage(error: OSError, directory: Path) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"the disk is full: a checkpoint could not be written to {directory}. The one before it "
            "is whole; free "
            "some space and give the same command to go on"
        )
    return StorageError(f"a checkpoint could not be written to {directory}: {error}")
