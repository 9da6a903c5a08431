"""What a step takes where less learns: seconds and operations, beside full tuning.

    python benchmarks/green.py [--rounds 3] [--steps 4] [--row 1024] [--model smollm2-135m-instruct]

In every round each arm has a process of its own, which fits the same four sequences through the loop that
recipes run. The first step is warm-up, and in it `green` makes its trial step and its choice; the median of
the others is a step's time. Ratios are to `full` in the same round; the operations are those that a step
records.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Name: trainable and its options.
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("full", {}),
    "lora, rank 8": ("lora", {"rank": 8}),
    "last 2 blocks": ("layers", {"last": 2}),
    "green 0.7": ("green", {"share": 0.7}),
    "green 0.5": ("green", {"share": 0.5}),
}
Found = dict[str, float]  # seconds of a step and of the first one, operations, parameters that learn


def main() -> None:
    """One line for each arm."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="the first is warm-up")
    parser.add_argument("--row", type=int, default=1024, help="tokens of a step: four sequences")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
    parser.add_argument("--json", type=Path, help="keeps every number of every process")
    asked = parser.parse_args()
    if asked.arms[0] != "full" or asked.steps < 2:
        parser.error("the first arm must be full, which the others are compared with; steps at least 2")
    found: dict[str, list[Found]] = {arm: [] for arm in asked.arms}
    for number in range(asked.rounds):  # every other round backwards: a machine may become slower
        for arm in asked.arms[:: 1 if number % 2 == 0 else -1]:
            found[arm].append(apart(arm, asked))
    if asked.json:
        asked.json.write_text(json.dumps({"asked": {**vars(asked), "json": None}, "found": found}, indent=1))
    for arm, rounds in found.items():
        print(line(arm, rounds, found["full"]))


def apart(arm: str, asked: argparse.Namespace) -> Found:
    """What a process of its own measures."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=measure, args=(there, arm, asked)).start()
    there.close()  # else a process that fails would be waited for
    return here.recv()


def line(arm: str, rounds: list[Found], full: list[Found]) -> str:
    """Medians over the rounds, and the ratios to full tuning from the least to the largest."""
    ratios = sorted(one["seconds"] / other["seconds"] for one, other in zip(rounds, full, strict=True))
    seconds, first = (statistics.median(one[name] for one in rounds) for name in ("seconds", "first"))
    share = statistics.median(a["flops"] / b["flops"] for a, b in zip(rounds, full, strict=True))
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    learns = statistics.median(one["learning"] for one in rounds) / 1e6
    return (
        f"{arm:14} {seconds:6.2f} s/step, {spread} of full; operations {share:.2f} of full; first step "
        f"{first:6.2f} s; {learns:.1f} M learn"
    )


def measure(result: Connection, arm: str, asked: argparse.Namespace) -> None:
    """Fit, and send what it took."""
    import torch

    from turnsmith.data.stream import Stream
    from turnsmith.models import forest, load
    from turnsmith.models.score import Scoring
    from turnsmith.registry import Registry
    from turnsmith.testing import Figures, method, tokens
    from turnsmith.train.loop import fit
    from turnsmith.train.options import Fit
    from turnsmith.train.place import Place, keep_memory
    from turnsmith.trainables.install import Learner, learning
    from turnsmith.types import Rendered

    keep_memory()
    name, options = ARMS[arm]
    if name == "green":
        options = {**options, "every": asked.steps}  # a step is an epoch: one choice
    model = load.load(asked.model, trainable=True)[0]
    learner = Learner(model, Registry().function("trainable", name), options, seed=0)
    forest.attach(learner.model)
    ids = torch.randint(3, 40_000, (4, asked.row // 4), generator=torch.Generator().manual_seed(0)).tolist()
    made = [Rendered(str(n), {"text": (tokens(one, len(one) // 3),)}) for n, one in enumerate(ids)]
    recorder = Figures()
    with tempfile.TemporaryDirectory() as folder:
        fit(
            Scoring(learner.model),
            Stream(made, batch=len(made), order="given", seed=0),
            method("sft"),
            Fit(steps=asked.steps, batch=len(made), row=asked.row, lr=1e-5, checkpoint=asked.steps),
            directory=Path(folder),
            recorder=recorder,
            place=Place(device="cpu"),
            seed=0,
            learner=learner,
        )
    first, *others = recorder.rows
    found = {
        # The last step writes the checkpoint after its seconds were taken.
        "seconds": statistics.median(row["seconds"] for row in others),
        "first": first["seconds"],
        "flops": others[-1]["flops"],
        "learning": float(sum(p.numel() for p in learning(learner.model).values())),
    }
    result.send(found)


if __name__ == "__main__":
    main()
