"""The peak of memory that is estimated for a training, against the peak that is measured.

    python benchmarks/memory.py [--hidden 512] [--layers 8] [--row 512]

Each combination trains a made model for a few steps in a process of its own, whose peak is read when it has
ended. Exits with 1 where an estimate is off by more than a quarter.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

WAYS = ("full", "half", "lora")
ALLOWED = 0.25  # of the measured peak


def trained(way: str, hidden: int, layers: int, row: int, sender: Any) -> None:
    """Train with this trainable; send the estimate and the peak in bytes."""
    import numpy as np
    import torch

    from turnsmith import testing
    from turnsmith.data.batch import pack
    from turnsmith.data.stream import Stream
    from turnsmith.models import forest
    from turnsmith.models.score import Scoring
    from turnsmith.objectives.likelihood import sft
    from turnsmith.recipes import components
    from turnsmith.train import room
    from turnsmith.train.loop import fit
    from turnsmith.train.method import Method
    from turnsmith.train.options import Fit
    from turnsmith.train.place import Place, keep_memory
    from turnsmith.train.record import peak_memory_gib
    from turnsmith.trainables.install import install
    from turnsmith.types import Rendered, Tokens

    torch.set_num_threads(1)
    keep_memory()
    whole = testing.model(vocabulary=16_000, layers=layers, hidden=hidden)
    forest.attach(whole)
    trainable: Any = components(()).function("trainable", way)
    scoring = Scoring(install(whole, trainable, {}, seed=0))
    rng, examples = np.random.default_rng(0), []
    for number in range(4):
        ids = rng.integers(0, 16_000, row).astype(np.int32)
        trained = np.concatenate([[0.0], np.ones(row - 1)]).astype(np.float32)
        examples.append(
            Rendered(str(number), {"text": (Tokens(ids, ids, trained, np.zeros(row, np.int32)),)})
        )
    options = Fit(steps=3, batch=2, row=row)
    estimate = room.peak(scoring, pack, options, row)
    with tempfile.TemporaryDirectory() as directory:
        fit(
            scoring,
            Stream(examples, batch=2, order="given", seed=0),
            Method(sft, "token", linear=True),
            options,
            directory=Path(directory),
            recorder=testing.Figures(),
            place=Place(device="cpu"),
            seed=0,
        )
    weights = sum(p.numel() * p.element_size() for p in scoring.parameters())
    sender.send({"way": way, "estimate": estimate, "peak": peak_memory_gib() * 2**30, "weights": weights})


def measured(way: str, hidden: int, layers: int, row: int) -> dict[str, Any]:
    """What a process of its own has sent."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=trained, args=(way, hidden, layers, row, sender))
    process.start()
    sender.close()
    found: dict[str, Any] = receiver.recv()
    process.join()
    return found


def main() -> int:
    """Measure all combinations and print a row of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--row", type=int, default=512)
    parser.add_argument("--ways", nargs="*", default=WAYS)
    asked = parser.parse_args()
    off = 0
    for way in asked.ways:
        found = measured(way, asked.hidden, asked.layers, asked.row)
        found["off"] = found["estimate"] / found["peak"] - 1
        off += abs(found["off"]) > ALLOWED
        print(json.dumps(found), flush=True)
    return int(off > 0)


if __name__ == "__main__":
    raise SystemExit(main())
