"""Where and in what arithmetic a step runs: device, dtype, processes. Accelerate does the work."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from turnsmith.errors import UsageError
from turnsmith.models.score import to
from turnsmith.shelf import write_text
from turnsmith.types import Batch

Dtype = Literal["float32", "bfloat16"]
M = TypeVar("M", bound=nn.Module)


def device() -> str:
    """The accelerator if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def processes() -> int:
    """How many processes train together, as whoever started this one says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def computed_on(dtype_seconds: Mapping[str, float]) -> dict[str, Any]:
    """What the last bits of sums depend on: device, threads, processes, and the arithmetic, of which the
    seconds say by how much it was faster where it was chosen by that."""
    here = {"device": device(), "threads": torch.get_num_threads(), "processes": processes()}
    return {**here, "dtype_seconds": dict(dtype_seconds)}


def faster_dtype(device: str = "cpu", *, repeats: int = 5) -> tuple[Dtype, dict[str, float]]:
    """The dtype in which a product of the size of a small model's layer is faster here, and both times in
    seconds."""
    seconds: dict[str, float] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(512, 1024, device=device).to(dtype)
        b = torch.randn(1024, 1024, device=device).to(dtype)
        taken = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            float(F.linear(a, b)[0, 0])  # reading a value waits for the device
            taken.append(time.perf_counter() - start)
        seconds[name] = min(taken[1:])
    return ("bfloat16" if seconds["bfloat16"] < seconds["float32"] else "float32"), seconds


def arithmetic(asked: str, file: Path) -> tuple[Dtype, dict[str, float]]:
    """The dtype to compute in. What was measured once is kept in `file`, so that going on later changes
    nothing."""
    if asked == "float32" or asked == "bfloat16":
        return asked, {}
    if not file.exists():
        dtype, seconds = faster_dtype(device())
        write_text(file, json.dumps({"dtype": dtype, "seconds": seconds}))
    kept = json.loads(file.read_text())
    return kept["dtype"], kept["seconds"]


def same_threads(file: Path) -> str | None:
    """Compute on as many threads as when this was first called with `file`, where the number is kept; gives a
    line where another was asked for.

    How a sum is cut among threads is in its last bits: on others, going on would be another run. What this
    process computes later is on as many, as it would have been without a stop.
    """
    asked = torch.get_num_threads()
    if not file.exists():
        write_text(file, json.dumps({"threads": asked}))
        return None
    kept = int(json.loads(file.read_text())["threads"])
    if kept == asked:
        return None
    torch.set_num_threads(kept)
    many = "s" if kept > 1 else ""
    return f"computing on {kept} thread{many}, as it began, not on {asked}: the last bits depend on it"


def keep_memory() -> bool:
    """Let glibc keep what is freed for what is asked for next; whether this C library can be told so.

    By default it hands large blocks back at once and gets them anew, page by page, for every tensor: on a
    virtual machine this takes a fifth of a training step. The process then keeps its peak memory to its end.
    """
    import ctypes
    import platform

    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # as malloc.h numbers them
    return all((mallopt(mmap_max, 0), mallopt(trim_threshold, 2**31 - 1), mallopt(top_pad, 2**26)))


def described(dtype: Dtype, seconds: Mapping[str, float]) -> str | None:
    """The arithmetic that was chosen, and why; None where it was not measured but asked for.

    >>> described("float32", {"float32": 0.1, "bfloat16": 0.25}).partition(" on ")[0]
    'computing in float32'
    """
    if not seconds:
        return None
    ratio, other = max(seconds.values()) / min(seconds.values()), max(seconds, key=lambda name: seconds[name])
    cores = torch.get_num_threads()
    where = f"{cores} core{'s' if cores > 1 else ''}" if device() == "cpu" else device()
    return f"computing in {dtype} on {where}: {other} takes {ratio:.1f} times as long here, measured"


class Place:
    """One process or many, through Accelerate; micro-batches are dealt out in turn.

    Raises UsageError where other processes were started that this one has not joined: each would train alone.
    """

    def __init__(self, *, device: str, trackers: Sequence[str] = (), directory: Path | None = None) -> None:
        from accelerate import Accelerator

        self.accelerator = Accelerator(
            cpu=device == "cpu", log_with=list(trackers) or None, project_dir=directory and str(directory)
        )
        asked, joined = processes(), self.accelerator.num_processes
        if asked != joined:
            raise UsageError(
                f"WORLD_SIZE says {asked} processes, {joined} joined: start with torchrun or accelerate, "
                "or unset WORLD_SIZE"
            )
        if trackers:
            self.accelerator.init_trackers("turnsmith")

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return int(self.accelerator.process_index)

    @property
    def alone(self) -> bool:
        """Whether this is the only process."""
        return int(self.accelerator.num_processes) == 1

    def prepare(self, module: M) -> M:
        """The module, wrapped where there are several processes."""
        return self.accelerator.prepare(module)

    def mine(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, float, bool]]:
        """(batch, factor, last) for each round of this process.

        The factor undoes the averaging of gradients over processes; it is 0 in a round without work, in which
        a batch still runs, because the others wait for its gradients.
        """
        world, rank = self.accelerator.num_processes, self.rank
        rounds = -(-len(batches) // world)
        for turn in range(rounds):
            index = turn * world + rank
            work = index < len(batches)
            batch = to(batches[index if work else 0], self.accelerator.device)
            yield batch, float(world if work else 0), turn == rounds - 1

    def quiet(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged in the last round only."""
        return nullcontext() if last else self.accelerator.no_sync(module)

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def clip(self, parameters: Iterable[nn.Parameter], norm: float) -> float:
        """Clip the gradients; gives their norm before."""
        found = self.accelerator.clip_grad_norm_(list(parameters), norm)
        assert found is not None
        return float(found)

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over processes."""
        if self.alone:
            return dict(values)
        stacked = torch.tensor(list(values.values()), dtype=torch.float64, device=self.accelerator.device)
        reduced: Any = self.accelerator.reduce(stacked, "sum")
        return dict(zip(values, reduced.tolist(), strict=True))

    def summed(self, values: Tensor) -> Tensor:
        """The sum of a tensor over processes."""
        found: Any = values if self.alone else self.accelerator.reduce(values, "sum")
        return found

    def any(self, asked: bool) -> bool:
        """Whether any process says so; all get the same answer."""
        return self.total({"asked": float(asked)})["asked"] > 0

    def log(self, values: Mapping[str, float], step: int) -> None:
        """To the trackers that were asked for."""
        self.accelerator.log(dict(values), step=step)
