"""Where the time of one optimiser step goes.

    python benchmarks/where.py [--what sft] [--trainable full] [--dtype bfloat16] [--examples 8] [--row 1024]

The step is the one that `step.py` measures on Turnsmith's side, the second of a process, under torch's
profiler, which slows it a little: shares of time are right, seconds are not.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ours
import step
from torch.profiler import ProfilerActivity, profile
from workload import Job

# What an operation belongs to, by itself or by what it is called in; the first that is found counts.
CALLERS = {
    "_Attention": "attention",
    "_AttentionBackward": "attention",
    "_Linear": "head and loss",
    "_LinearBackward": "head and loss",
    "Optimizer.step": "optimiser",
    "Optimizer.zero_grad": "optimiser",
}
OWN = {
    "aten::mm": "matrix products of the layers",
    "aten::addmm": "matrix products of the layers",
    "aten::copy_": "copies and casts",
    "aten::cat": "copies and casts",
    "aten::linalg_vector_norm": "norm of the gradient",
}


class Second:
    """A recorder that profiles the second step."""

    def __init__(self) -> None:
        self.profile = profile(activities=[ProfilerActivity.CPU])
        self.started = self.seconds = 0.0

    def step(self, values: Mapping[str, float]) -> None:
        if values["step"] == 1:
            self.profile.start()
            self.started = time.perf_counter()
        else:
            self.seconds = time.perf_counter() - self.started
            self.profile.stop()

    def rewind(self, step: int) -> None:
        """Nothing was written."""


def main() -> None:
    """Print the share of each class."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--what", choices=["sft", "dpo"], default="sft")
    parser.add_argument("--trainable", choices=["full", "lora"], default="full")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--row", type=int, default=1024)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        options = step.parsed([f"--examples={asked.examples}", f"--model={asked.model}", f"--folder={place}"])
        work = step.made(options, asked.what, asked.length, 1.0 if asked.what == "dpo" else None, Path(place))
        job = Job(
            model=work["model"],
            file=work["file"],
            what=asked.what,
            side=step.OURS,
            trainable=asked.trainable,
            dtype=asked.dtype,
            reference="live",
            steps=2,
            length=asked.length,
            lr=1e-5,
            row=asked.row,
            batch=8,
        )
        second = Second()
        ours.fitted(job, ours.given(job), Path(place), second)
    shares = classified(second.profile.events())
    print(f"{step.title(job, work)}: {second.seconds:.2f} s, load {os.getloadavg()[0]:.1f}")
    for name, taken in shares.most_common():
        print(f"  {name:<32}{taken / second.seconds:6.1%}")
    print(f"  {'between operations':<32}{1 - shares.total() / second.seconds:6.1%}")


def classified(events: Any) -> Counter[str]:
    """Seconds of each class, of what operations take by themselves."""
    found: Counter[str] = Counter()
    for event in events:
        found[_class(event)] += event.self_cpu_time_total / 1e6
    return found


def _class(event: Any) -> str:
    own, above = event.name, event
    while above is not None:
        for name, kind in CALLERS.items():
            if above.name == name or above.name.startswith(f"{name}#"):
                return kind
        above = above.cpu_parent
    return OWN.get(own, "element by element")


if __name__ == "__main__":
    main()
