"""What the frozen lower blocks of a model give for each token, computed once and kept on the disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from turnsmith import ranks
from turnsmith.data.batch import Layout, micro_batches
from turnsmith.data.stream import Stream
from turnsmith.errors import StorageError
from turnsmith.models.lower import Lower, depth
from turnsmith.models.score import TOLERANCE, Scoring
from turnsmith.shelf import writing
from turnsmith.train.checkpoint import newest
from turnsmith.train.options import Fit
from turnsmith.train.reference import Picked
from turnsmith.types import Batch

Batches = Callable[[], Iterable[Batch]]
Ranges = tuple[tuple[int, int], ...]
FILE = "lower.npy"
SHARE = 0.5  # of what is free on the disk: checkpoints and the model that comes out need room as well


def keep(
    scoring: Scoring,
    stream: Stream,
    layout: Layout,
    options: Fit,
    directory: Path,
    *,
    changing: str | None,
    say: Callable[[str], None],
) -> tuple[Kept | None, str | None]:
    """Let `scoring` take what frozen lowest blocks give from a file in `directory`, where it can and pays.

    It pays where they are seen twice. changing: why it would not stay the same, if it would not. say: is told
    before the states are computed. Gives what is kept, or a sentence where it would have paid but cannot be.
    """
    blocks = depth(scoring.base)
    times = stream.times(options.total(len(stream.examples)))
    if options.cache == "never" or not blocks or times.max() < 2:
        return None, None
    lower, file = Lower(scoring, blocks), directory / FILE
    which = f"the lowest blocks ({lower.share}) are frozen: what they give"

    def without(reason: str) -> tuple[None, str]:
        return None, f"{which} is computed anew in every epoch: {reason}"

    probe = layout(next(micro_batches(stream.window(0), options.row)))
    if reason := _forbidden(changing) or lower.refusal(probe):
        return without(reason)
    seen = Picked(stream.examples, np.flatnonzero(times))
    kept = Kept(lower, lambda: map(layout, micro_batches(seen, options.row)))
    if reason := kept.too_large(file):
        return without(reason)
    say(f"        {which} is computed once and kept, {kept.bytes / 1e9:.2g} GB on the disk")
    kept.fill(file)
    if reason := kept.disagreement(probe):
        file.unlink()
        return without(reason)
    scoring.lower = kept
    return kept, None


def _forbidden(changing: str | None) -> str | None:
    if ranks.world() > 1:
        return "several processes cannot share it yet"
    return changing


class Kept:
    """The states of all tokens of some batches, found again by the ids of the path that a token is on.

    A state depends on its path alone, so it does not matter what else a batch holds, nor how it is laid out.
    batches: gives the same batches, in the same order, whenever it is called. A token that several paths of a
    batch share is kept once. What is held in memory is a few numbers for each path.
    """

    def __init__(self, lower: Lower, batches: Batches) -> None:
        self.lower, self.batches = lower, batches
        self.where: dict[bytes, Ranges] = {}
        self.rows = sum(len(slots) for _, slots in _planned(batches(), self.where))
        probe = lower.states(next(iter(batches())))
        self.dtype, self.width = probe.dtype, probe.shape[-1]
        self.flat = np.empty((0, self.width), _plain(probe).dtype)

    @property
    def bytes(self) -> int:
        """What the states take on the disk."""
        return self.rows * self.width * self.dtype.itemsize

    def too_large(self, file: Path) -> str | None:
        """Why the states will not be kept in `file`, or None.

        A run that has gone some steps without them goes on so: with them, its last digits would be others.
        """
        if file.exists():
            return None
        if newest(file.parent / "checkpoints"):
            return "the run began like that"
        free = shutil.disk_usage(file.parent).free
        if self.bytes <= SHARE * free:
            return None
        return f"it would take {self.bytes / 1e9:.2g} GB, and {free / 1e9:.2g} GB are free on the disk"

    def fill(self, file: Path) -> None:
        """Compute the states into `file`, which is there whole or not at all; if it is there it is read."""
        if not file.exists():
            aside = file.with_suffix(".partial.npy")
            with writing(file):
                self._write(aside)
                aside.replace(file)
        flat = np.load(file, mmap_mode="r")
        expected = (self.rows, self.width), self.flat.dtype
        if (flat.shape, flat.dtype) != expected:
            raise StorageError(f"{file} has states of other tokens or another model: remove it and run again")
        self.flat = flat

    def _write(self, aside: Path) -> None:
        # Not through a memory map: there a full disk ends the process instead of raising.
        with aside.open("wb") as opened:
            header = {"descr": self.flat.dtype.str, "fortran_order": False, "shape": (self.rows, self.width)}
            np.lib.format.write_array_header_1_0(opened, header)
            for batch, slots in _planned(self.batches(), {}):
                if len(slots):
                    states = self.lower.states(batch).flatten(0, 1)
                    opened.write(_plain(states)[slots].tobytes())
            opened.flush()
            os.fsync(opened.fileno())

    def __call__(self, batch: Batch) -> AbstractContextManager[None]:
        """A context in which the model takes the states of this batch from here.

        Where a path of the batch is not known, all of the batch is computed.
        """
        found = [(slots, self.where.get(key)) for key, slots in _paths(batch)]
        states = np.zeros((batch.inputs.numel(), self.width), self.flat.dtype)  # zero: what is padded
        for slots, ranges in found:
            if ranges is None:
                return nullcontext()
            at = 0
            for start, stop in ranges:
                states[slots[at : at + stop - start]] = self.flat[start:stop]
                at += stop - start
        given = torch.from_numpy(states).view(self.dtype).view(*batch.inputs.shape, self.width)
        return self.lower.replaced(given.to(batch.inputs.device))

    @torch.no_grad()
    def disagreement(self, batch: Batch) -> str | None:
        """How the log-probs of `batch` from the states kept differ from those computed; None: by rounding."""
        scoring = self.lower.scoring.eval()
        computed = scoring(batch).logprobs
        scoring.lower = self
        try:
            kept = scoring(batch).logprobs
        finally:
            scoring.lower = None
        if not len(computed):
            return None
        worst, largest = float((kept - computed).abs().max()), float(computed.abs().max())
        coarse = scoring.autocast or self.dtype in (torch.bfloat16, torch.float16)
        if worst <= TOLERANCE[torch.bfloat16 if coarse else torch.float32] * max(1.0, largest):
            return None
        return f"log-probs from what was kept differ by {worst:.3g} from those computed"


def _planned(batches: Iterable[Batch], where: dict[bytes, Ranges]) -> Iterator[tuple[Batch, np.ndarray]]:
    """Each batch with its slots whose states are to be kept; notes in `where` which rows a path gets."""
    taken = 0
    for batch in batches:
        new = {key: slots for key, slots in _paths(batch) if key not in where}
        kept = np.unique(np.concatenate([*new.values(), np.empty(0, np.int64)]))
        for key, slots in new.items():
            where[key] = _ranges(taken + kept.searchsorted(slots))
        taken += len(kept)
        yield batch, kept


def _paths(batch: Batch) -> Iterator[tuple[bytes, np.ndarray]]:
    """A digest of the ids of each path, and the slots of its tokens in the flattened rows."""
    inputs = batch.inputs.flatten().numpy(force=True)
    for end in batch.reads.tolist():
        slots = _route(batch, end)
        yield hashlib.blake2b(inputs[slots].tobytes(), digest_size=16).digest(), slots


def _route(batch: Batch, end: int) -> np.ndarray:
    """The slots from the root of a path to its last token, which is in slot `end`."""
    if batch.forest is None:
        return np.arange(end - end % batch.inputs.shape[1], end + 1)
    bounds = batch.forest.bounds
    last = bisect_right(bounds, end) - 1
    above = [np.arange(bounds[s], bounds[s + 1]) for s in batch.forest.ancestors(last)]
    return np.concatenate([*above, np.arange(bounds[last], end + 1)])


def _ranges(rows: np.ndarray) -> Ranges:
    """
    >>> _ranges(np.array([4, 5, 6, 9]))
    ((4, 7), (9, 10))
    """
    first = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    last = np.append(first[1:], len(rows)) - 1
    return tuple((int(rows[a]), int(rows[b]) + 1) for a, b in zip(first, last, strict=True))


def _plain(states: Tensor) -> np.ndarray:
    """The same bits as an array; numpy has no bfloat16."""
    states = states.detach().contiguous()
    return (states.view(torch.int16) if states.dtype is torch.bfloat16 else states).numpy(force=True)
