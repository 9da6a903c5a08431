"""How long rows may be in the memory that there is, and what is done where they are too long for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from turnsmith.data.batch import Layout
from turnsmith.models.recompute import recompute
from turnsmith.models.score import Scoring
from turnsmith.shelf import write_text
from turnsmith.train.options import Fit
from turnsmith.types import Rendered, Tokens

FILE = "room.json"  # where the choice is kept, in the directory of a training
PROBES = (32, 96)  # tokens of two rows: what the longer one holds more is what a token takes
SHARE = 0.85  # of what is free: the rest is for what products and the allocator take for a moment
SLABS = 0.5 * 2**30  # bytes of logits, their gradients and other transients
MUCH = 0.25  # of the weights: where less learns, it is an adapter already or next to one
SMALL = 0.02  # of the weights: about what an adapter of rank 16 has
LOGITS = 5  # times that a slab's logits are there: themselves, softmax, gradients, and two in passing


@dataclass(frozen=True, slots=True)
class Room:
    """What a training step may use.

    row: most tokens of a micro-batch. recompute: whether activations are computed twice instead of kept.
    said: what was chosen other than asked for, and why; empty where nothing was. peak: bytes that the
    training will have held at most, as `peak` estimates them. ways: which options would save how much of
    them.
    """

    row: int
    recompute: bool
    said: str = ""
    peak: float = field(default=0.0, compare=False)
    ways: tuple[str, ...] = field(default=(), compare=False)


def room(
    scoring: Scoring,
    layout: Layout,
    fit: Fit,
    longest: int,
    *,
    free: float,
    file: Path | None = None,
    coming: float = 0.0,
) -> Room:
    """Rows and activations that fit into `free` bytes; leaves the model as chosen.

    longest: tokens of the longest example, which is not cut. file: where the choice is kept, so that going on
    after a stop changes nothing. coming: bytes that this process has yet to load, and will hold then; they
    are no part of `free`.
    """
    if file is not None and file.exists():
        kept = json.loads(file.read_text("utf-8"))
        found = Room(**kept | {"ways": tuple(kept.get("ways", ()))})
        if found.recompute and not fit.gradient_checkpointing:
            recompute(scoring.model)
        return found
    found, token = _chosen(scoring, layout, fit, longest, free)
    found = replace(
        found,
        peak=coming + peak(scoring, fit, found.row, token),
        ways=(*_of_rows(found, longest, token), *_ways(scoring, fit, found.row, token)),
    )
    if file is not None:
        write_text(file, json.dumps(asdict(found)))
    return found


def peak(scoring: Scoring, fit: Fit, row: int, token: float) -> float:
    """Bytes that a training in rows of `row` tokens of `token` bytes will have held at most, the loaded model
    included: of the device, or of this process.

    What it holds now, what is there whatever the rows are, what a row holds for the backward pass, and the
    slabs of logits, which in a small vocabulary are no whole ones. An estimate: benchmarks/memory.py compares
    it with what was held.
    """
    logits = LOGITS * 4 * row * scoring.vocabulary
    return _held_now(scoring) + _lasting(scoring, fit) + min(SLABS, logits) + row * token


def _held_now(scoring: Scoring) -> float:
    """Bytes that are held before the first step."""
    if scoring.device.type == "cuda":
        return float(torch.cuda.memory_allocated())
    import psutil

    return float(psutil.Process().memory_info().rss)


def available(device: str) -> float:
    """Bytes that this process can still get: of the device, of the machine, or of its container."""
    if device == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    import psutil

    free = float(psutil.virtual_memory().available)
    most, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if most.exists() and used.exists() and (limit := most.read_text().strip()) != "max":
        free = min(free, float(limit) - float(used.read_text()))
    return free


def _chosen(scoring: Scoring, layout: Layout, fit: Fit, longest: int, free: float) -> tuple[Room, float]:
    """What fits into `free` bytes, and how many a token of a row then holds."""
    left = SHARE * free - _static(scoring, fit)
    token = _per_token(scoring, layout)
    wanted = max(fit.row, longest)
    if wanted * token <= left:
        return Room(fit.row, fit.gradient_checkpointing), token
    why = f"{_gib(free)} are free, and rows of {wanted:,} tokens would hold {_gib(wanted * token)}"
    if longest * token <= left:
        row = int(left / token)
        said = f"rows of {row:,} tokens, not {fit.row:,}: {why}"
        return Room(row, fit.gradient_checkpointing, said), token
    whole = token
    if not fit.gradient_checkpointing:
        recompute(scoring.model)
        token = _per_token(scoring, layout)
    row = min(fit.row, max(longest, int(left / token)))
    said = f"activations are computed twice instead of kept, in rows of at most {row:,} tokens: {why}"
    if whole > token:
        said += f"; that saves {_gib(row * (whole - token))}"
    if row * token > left:
        much, short = _gib(row * token), _gib(row * token - left)
        ways = "; ".join(_ways(scoring, fit, row, token))
        said += f". Even so these hold {much}, which is {short} more than there is. What would save: {ways}"
    return Room(row, True, said), token


def _of_rows(found: Room, longest: int, token: float) -> Iterator[str]:
    """Which option saves how much, where rows need not be as they are."""
    if not found.recompute:
        much = _gib(found.row * token)
        yield f"activations computed twice (fit.gradient_checkpointing: true) most of {much}"
    if found.row > longest:
        yield f"rows of the longest example (fit.row: {longest:,}) {_gib((found.row - longest) * token)}"


def _ways(scoring: Scoring, fit: Fit, row: int, token: float) -> list[str]:
    """Which option saves how much, where a row of so many tokens of so many bytes is too much."""
    found = [f"conversations of half the length (fit.length: {max(1, row // 2):,}) {_gib(row * token / 2)}"]
    if fit.evaluate:
        found.append(f"no best state (fit.evaluate: 0) {_gib(_learning(scoring))}")
    if _learning(scoring) > MUCH * _weights(scoring):
        adapter, times = SMALL * _weights(scoring), 4 if fit.evaluate else 3
        found.append(f"an adapter (trainable: lora) about {_gib(times * (_learning(scoring) - adapter))}")
    return found


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def _static(scoring: Scoring, fit: Fit) -> float:
    """Bytes that training adds to the weights whatever the rows are, slabs of logits included."""
    return _lasting(scoring, fit) + SLABS


def _lasting(scoring: Scoring, fit: Fit) -> float:
    """Bytes of gradients, two averages of AdamW, the best state, and the weights once more in the
    arithmetic's dtype."""
    wide = sum(p.numel() for p in scoring.parameters() if p.dtype == torch.float32)
    return _learning(scoring) * (4 if fit.evaluate else 3) + (2 * wide if scoring.autocast else 0)


def _weights(scoring: Scoring) -> float:
    """Bytes of all weights."""
    return sum(p.numel() * p.element_size() for p in scoring.parameters())


def _learning(scoring: Scoring) -> float:
    """Bytes of what learns."""
    return sum(p.numel() * p.element_size() for p in scoring.parameters() if p.requires_grad)


def _per_token(scoring: Scoring, layout: Layout) -> float:
    """Bytes that a forward pass holds for the backward pass, for each token of a row."""
    few, many = (_held(scoring, layout, count) for count in PROBES)
    return (many - few) / (PROBES[1] - PROBES[0])


def probe(scoring: Scoring, count: int = PROBES[0]) -> Rendered:
    """An example of so many tokens that say nothing."""
    ids = np.arange(count, dtype=np.int32) % scoring.vocabulary
    trained = np.concatenate([[0.0], np.ones(count - 1)]).astype(np.float32)
    return Rendered("probe", {"text": (Tokens(ids, ids, trained, np.zeros(count, np.int32)),)})


def _held(scoring: Scoring, layout: Layout, count: int) -> int:
    example = probe(scoring, count)
    training = scoring.training
    scoring.train()
    with torch.random.fork_rng(), holding(scoring) as held:
        scores = scoring(layout([example]), words=scoring.speaks)
    scoring.train(training)
    del scores
    return sum(held.values())


@contextmanager
def holding(module: nn.Module) -> Iterator[dict[int, int]]:
    """Bytes of each storage that is kept for a backward pass while this is open; of parameters 0."""
    # By storages, not their addresses: those of tensors without values have none.
    held = {p.untyped_storage()._cdata: 0 for p in module.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held.setdefault(storage._cdata, storage.nbytes())
        return tensor.detach()  # a pass that is kept by what it keeps would never end

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield held
