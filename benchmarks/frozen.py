"""What a step costs when part of the model is frozen: seconds and memory. Linux only.

    python benchmarks/frozen.py [--rounds 3] [--row 1024] [--model smollm2-135m-instruct] [--autocast]

In every round each arm has a process of its own, which makes two steps (forward, backward, AdamW) on the same
ids and times the second. `held` is what the graph holds for the backward pass, parameters aside, where no
activation checkpointing is on; `peak` the most main memory during the two steps, the model included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Name: trainable, its options, activation checkpointing, whether states are kept.
ARMS: dict[str, tuple[str, dict[str, Any], bool, bool]] = {
    "full": ("full", {}, False, False),
    "half": ("half", {}, False, False),
    "norms": ("norms", {}, False, False),
    "lora": ("lora", {"rank": 16}, False, False),
    "last 4": ("layers", {"last": 4}, False, False),
    "last 4, kept": ("layers", {"last": 4}, False, True),
    "last 4, recomputed": ("layers", {"last": 4}, True, False),
}


def main() -> None:
    """One line for each arm."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--row", type=int, default=1024, help="tokens of a step: four sequences")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--autocast", action="store_true", help="bf16")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
    asked = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    found: dict[str, list[tuple[float, ...]]] = {arm: [] for arm in asked.arms}
    for arm in asked.arms * asked.rounds:  # in turn: a machine that is slow for a while slows all of them
        here, there = context.Pipe()
        context.Process(target=measure, args=(there, arm, asked)).start()
        there.close()  # else a process that fails would be waited for
        found[arm].append(here.recv())
    for arm, rounds in found.items():
        seconds, held, peak = (sorted(one[i] for one in rounds) for i in range(3))
        step = f"{statistics.median(seconds):6.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f})"
        print(f"{arm:20} step {step}  held {held[0]:5.2f}  peak {statistics.median(peak):5.2f} GiB")


def measure(result: Connection, arm: str, asked: argparse.Namespace) -> None:
    """Seconds of the second step, and the two memories in GiB."""
    import torch

    from turnsmith.data.batch import pack
    from turnsmith.models import forest, load, recompute
    from turnsmith.models.lower import Lower, depth
    from turnsmith.models.score import Scoring
    from turnsmith.registry import Registry
    from turnsmith.testing import tokens
    from turnsmith.train.lower import Kept
    from turnsmith.train.optim import adamw
    from turnsmith.train.options import Fit
    from turnsmith.trainables.install import install, learning
    from turnsmith.types import Rendered

    name, options, again, kept = ARMS[arm]
    component = norms if name == "norms" else Registry().function("trainable", name)
    model = install(load.load(asked.model)[0], component, options, seed=0)
    if again:
        recompute.recompute(model)
    forest.attach(model)
    scoring = Scoring(model, autocast=asked.autocast).train()
    ids = torch.randint(3, 40_000, (4, asked.row // 4), generator=torch.Generator().manual_seed(0)).tolist()
    batch = pack([Rendered("made", {"text": (tokens(one, len(one) * 2 // 3),)}) for one in ids])
    optimizer = adamw(learning(scoring).values(), Fit(steps=2))
    with tempfile.TemporaryDirectory() as folder:
        if kept:
            states = Kept(Lower(scoring, depth(scoring.base)), lambda: [batch])
            states.fill(Path(folder) / "lower.npy")
            scoring.train().lower = states
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        held = step(scoring, batch, optimizer, watched=not again)
        started = time.perf_counter()
        step(scoring, batch, optimizer)
        seconds = time.perf_counter() - started
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    result.send((seconds, held / 2**30, peak / 2**20))


def norms(model: Any, draw: Any) -> dict[str, bool]:
    """A trainable as small as biases: the scales of the norms."""
    return {name: parameter.ndim == 1 for name, parameter in model.named_parameters()}


def step(scoring: Any, batch: Any, optimizer: Any, *, watched: bool = False) -> int:
    """One step; bytes that the graph holds before its backward pass, parameters aside."""
    from turnsmith.train.room import holding

    with holding(scoring) if watched else nullcontext({}) as held:
        loss = -scoring(batch).logprobs.mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return sum(held.values())


if __name__ == "__main__":
    main()
