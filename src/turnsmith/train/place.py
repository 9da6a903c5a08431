"""Where and in what arithmetic a step runs: device, dtype, processes. Accelerate does the work."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from turnsmith import ranks
from turnsmith.errors import UsageError
from turnsmith.models.score import Scoring, to
from turnsmith.shelf import write_text
from turnsmith.train.shard import shard as share_out
from turnsmith.train.shard import whole
from turnsmith.types import Batch

Dtype = Literal["float32", "bfloat16"]


def device() -> str:
    """The accelerator if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def computed_on(dtype_seconds: Mapping[str, float]) -> dict[str, Any]:
    """What the last bits of sums depend on: device, threads, processes, and the arithmetic, of which the
    seconds say by how much it was faster where it was chosen by that."""
    here = {"device": device(), "threads": torch.get_num_threads(), "processes": ranks.world()}
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


def same_threads(file: Path) -> list[str]:
    """Compute on as many threads as when this was first called with `file`, where the number is kept, and
    that of processes; gives lines where others were asked for.

    How a sum is cut among threads and processes is in its last bits: on others, going on would be another
    run. What this process computes later is on as many threads, as it would have been without a stop.
    """
    asked = {"threads": torch.get_num_threads(), "processes": ranks.world()}
    if not file.exists():
        write_text(file, json.dumps(asked))
        return []
    kept, said = json.loads(file.read_text()), list[str]()
    if (threads := int(kept["threads"])) != asked["threads"]:
        torch.set_num_threads(threads)
        many = "s" if threads > 1 else ""
        asks = asked["threads"]
        said.append(
            f"computing on {threads} thread{many}, as it began, not on {asks}: the last bits depend on it"
        )
    if kept["processes"] != asked["processes"]:
        here = asked["processes"]
        many = "es" if here > 1 else ""
        said.append(
            f"on {here} process{many}, where it began on {kept['processes']}: the last bits will differ"
        )
    return said


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

    shard: each process holds a part of every parameter (FSDP2), as it does where `accelerate launch
    --use_fsdp` has started it; else each holds all of them.

    Raises UsageError where other processes were started that this one has not joined: each would train alone;
    and where DeepSpeed was asked for.
    """

    def __init__(
        self,
        *,
        device: str,
        trackers: Sequence[str] = (),
        directory: Path | None = None,
        shard: bool = False,
    ) -> None:
        from accelerate import Accelerator

        if _set("ACCELERATE_USE_DEEPSPEED"):
            raise UsageError(
                "DeepSpeed steps by itself, and here a step can be refused: leave --use_deepspeed out, and "
                "share parameters, gradients and optimiser by FSDP2 (fit.shard: true, or --use_fsdp)"
            )

        self.accelerator = Accelerator(
            cpu=device == "cpu",
            mixed_precision="no",
            log_with=list(trackers) or None,
            project_dir=directory and str(directory),
        )
        ranks.joined(self.accelerator.num_processes)
        self.sharded = (shard or _set("ACCELERATE_USE_FSDP")) and not self.alone
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

    def prepare(self, scoring: Scoring) -> nn.Module:
        """The module whose passes exchange gradients: wrapped where there are several processes. Where they
        share parameters, those of `scoring` are afterwards other ones."""
        if not self.sharded:
            return self.accelerator.prepare(scoring)
        share_out(scoring.to(self.accelerator.device))
        return scoring

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
        if self.sharded:
            module.set_requires_gradient_sync(last)  # pyright: ignore[reportCallIssue]
            return nullcontext()
        return nullcontext() if last else self.accelerator.no_sync(module)

    def backward(self, loss: Tensor) -> None:
        """Accelerate's own divides by steps of accumulation; here a window is divided by its units."""
        loss.backward()

    def clip(self, parameters: Iterable[nn.Parameter], norm: float) -> float:
        """Clip the gradients; gives their norm before."""
        return float(whole(nn.utils.clip_grad_norm_(list(parameters), norm)))

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


def untaken() -> list[str]:
    """What Accelerate's settings say and is not taken from there, with where it is said instead."""
    said = {
        "mixed_precision": ("ACCELERATE_MIXED_PRECISION", "no", "fit.dtype says in what arithmetic"),
        "gradient_accumulation_steps": (
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
            "1",
            "fit.batch and fit.row say how a step is cut",
        ),
    }
    return [
        f"{name}: {found} of accelerate's settings is not taken: {instead}"
        for name, (variable, usual, instead) in said.items()
        if (found := os.environ.get(variable, usual)) != usual
    ]


def _set(name: str) -> bool:
    """Whether `accelerate launch` was asked for this."""
    return os.environ.get(name, "false").lower() == "true"
