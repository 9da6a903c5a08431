"""Seconds of one optimiser step beside transformers.Trainer and TRL: same model, tokens, loss and precision.

    python benchmarks/step.py                                        SFT, full and LoRA, bf16 and fp32
    python benchmarks/step.py --what dpo --trainable full            pairs, prompts of 0.5, 1 and 4 replies
    python benchmarks/step.py --model 1b --length 1024 4096 8192     random weights and tokens: for GPUs

What is compared are pairs of runs, one after the other in one call, each in a process of its own, so that a
machine which is slower for an hour slows both; who goes first alternates. Before any figure is printed, both
sides must have read and trained as many tokens, and their losses before the first update must agree: else the
benchmark ends with exit code 1. How the peers are set up is said in peers.py, what is counted in limit.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from workload import SHAPES, Job

HERE = Path(__file__).resolve().parent
OURS = "turnsmith"
SFT = ("trl", "trl-packed", "trl-plain", "trl-packed-plain", "trl-packed-rows", "trainer")
DPO = ("trl", "trl-plain", "trl-liger", "trl-plain-liger")
LIGER = ("trl-liger", "trl-plain-liger", "trl-packed-liger")
TOLERANCE = 1e-3  # of the loss of the first step
# Trained tokens. In bf16 the log-probs of 315 tokens under LoRA, ours and transformers', were apart by 0.08
# (standard deviation); if that is rounding, the mean of 2,000 is by 0.0018, of losses of 3 to 4.
FEW = 2000
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what was asked."""
    asked = parsed(arguments)
    load = opened(asked)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        for what, length, ratio in settings(asked):
            work = made(asked, what, length, ratio, Path(place))
            for job in jobs(asked, work, what, length):
                found.append({"ratio": ratio, **compared(asked, job, work)})
    keep(asked, load, found)


def opened(asked: argparse.Namespace) -> str:
    """Make the folder, and say how busy the machine is; gives that."""
    asked.folder.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"load {load} at the start, {asked.threads} threads on {cores} cores, {asked.rounds} rounds")
    return load


def keep(asked: argparse.Namespace, load: str, found: Sequence[dict[str, Any]]) -> None:
    """Write all that was measured, where that was asked for."""
    if asked.json:
        asked.json.write_text(json.dumps({"load": load, "settings": found}, indent=1) + "\n")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--what", nargs="+", choices=["sft", "dpo"], default=["sft"])
    named = {"choices": [*SFT, *LIGER], "metavar": "PEER", "help": f"of {', '.join([*SFT, *LIGER])}"}
    add("--peers", nargs="+", default=["trl", "trl-packed", "trainer"], **named)
    add("--trainable", nargs="+", choices=["full", "lora"], default=["full", "lora"])
    add("--dtype", nargs="+", choices=["bfloat16", "float32"], default=["bfloat16", "float32"])
    add("--reference", nargs="+", choices=["precomputed", "live"], default=["precomputed", "live"])
    add("--ratios", nargs="+", type=float, default=[0.5, 1.0, 4.0], help="of prompt to reply, for dpo")
    add("--model", default="smollm2-135m-instruct", help=f"a model, or random weights: {', '.join(SHAPES)}")
    add(
        "--length", nargs="+", type=int, default=[1024], help="most tokens; of random models all have as many"
    )
    add("--examples", type=int, default=16, help="in one step")
    add("--steps", type=int, default=3, help="the first of a process is warm-up and not in the median")
    add("--rounds", type=int, default=3)
    add("--row", type=int, default=1024, help="most tokens of a micro-batch of ours")
    add("--batch", type=int, default=8, help="rows of a micro-batch of the peers; 8 is their default")
    add("--lr", type=float, default=1e-5)
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--json", type=Path, help="file for all that was measured")
    add("--folder", type=Path, default=Path(tempfile.gettempdir()) / "turnsmith-benchmark")
    asked = parser.parse_args(arguments)
    if asked.steps < 2:
        parser.error("--steps: the first is warm-up, so it takes 2 at least")
    if "dpo" in asked.what and asked.examples > asked.batch and asked.examples % asked.batch:
        parser.error(
            f"--examples: DPOTrainer averages over micro-batches, so take a multiple of {asked.batch} pairs"
        )
    return asked


def settings(asked: argparse.Namespace) -> Iterator[tuple[str, int, float | None]]:
    """(what, length, ratio) of each set of examples."""
    for what, length in product(asked.what, asked.length):
        yield from ((what, length, ratio) for ratio in (asked.ratios if what == "dpo" else [None]))


def made(
    asked: argparse.Namespace, what: str, length: int, ratio: float | None, place: Path
) -> dict[str, Any]:
    """The examples of a step, as a file for both sides, and their counts."""
    file = place / f"{what}-{length}-{ratio}.json"
    wanted = {
        "what": what,
        "length": length,
        "ratio": ratio,
        "model": asked.model,
        "examples": asked.examples,
        "seed": asked.seed,
        "folder": str(asked.folder),
        "file": str(file),
    }
    return {"file": str(file), **measured("workload", json.dumps(wanted), asked.threads)}


def jobs(asked: argparse.Namespace, work: dict[str, Any], what: Any, length: int) -> Iterator[Job]:
    """Ours of each setting that these examples are for."""
    references: list[Any] = asked.reference if what == "dpo" else ["live"]
    for trainable, dtype, reference in product(asked.trainable, asked.dtype, references):
        yield Job(
            model=work["model"],
            file=work["file"],
            what=what,
            side=OURS,
            trainable=trainable,
            dtype=dtype,
            reference=reference,
            steps=asked.steps,
            length=length,
            lr=asked.lr,
            row=asked.row,
            batch=asked.batch,
        )


# ------------------------------------------------------------------------------------- what is compared


def compared(asked: argparse.Namespace, job: Job, work: dict[str, Any]) -> dict[str, Any]:
    """Measure one setting against each peer in alternating pairs, and print it."""
    limit = measured("limit", job.argument, asked.threads)
    print(f"\n{title(job, work)}\n{bound(limit)}", flush=True)
    pairs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers(asked.peers, job.what)}
    for turn, peer in product(range(asked.rounds), pairs):
        jobs = [job, replace(job, side=peer)]
        runs = {one.side: side(one, asked.threads) for one in (jobs if turn % 2 == 0 else jobs[::-1])}
        agree(job, peer, work, runs[OURS], runs[peer])
        pairs[peer].append(runs)
    own = [runs[OURS] for rows in pairs.values() for runs in rows]
    print(head(job))
    for name, runs in [(OURS, own), *((peer, [r[peer] for r in rows]) for peer, rows in pairs.items())]:
        print(line(name, runs, job, work, limit))
    for peer, rows in pairs.items():
        print(ratio_line(peer, rows), flush=True)
    return {"job": json.loads(job.argument), "work": work, "limit": limit, "pairs": pairs}


def peers(asked: Sequence[str], what: str) -> Iterator[str]:
    """Those that can do it; a line for each that cannot."""
    for peer in asked:
        if what == "dpo" and peer not in DPO:
            print(f"  {peer}: not run, it has no setting for dpo")
        elif peer in LIGER and importlib.util.find_spec("liger_kernel") is None:
            print(f"  {peer}: not run, liger_kernel is not installed")
        else:
            yield peer


def agree(job: Job, peer: str, work: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """End the benchmark where the two did not do the same."""
    for name in ("read", "supervised"):
        if not ours[name] == theirs[name] == work[name]:
            raise SystemExit(
                f"{peer} is not given the same work: tokens {name} are {theirs[name]}, ours {ours[name]}, in "
                f"the file {work[name]}"
            )
    one, other = ours["losses"][0], theirs["losses"][0]
    pairs = [(one, math.log(2)), (other, math.log(2))] if job.what == "dpo" else [(one, other)]
    if all(abs(loss - wanted) <= TOLERANCE * abs(wanted) for loss, wanted in pairs):
        return
    hint = ", ln 2 is 0.693147" if job.what == "dpo" else ""
    if job.dtype == "bfloat16" and work["supervised"] < FEW:
        hint += f"; for bf16 {work['supervised']} trained tokens are few: take more --examples"
    raise SystemExit(
        f"the losses of the first step do not agree: {OURS} {one:.6f}, {peer} {other:.6f} ({job.what} "
        f"{job.trainable} {job.dtype}, at most {TOLERANCE:g} of it is allowed){hint}"
    )


# --------------------------------------------------------------------------------------- what is printed


def title(job: Job, work: dict[str, Any]) -> str:
    name = f"{job.what} {job.trainable} {job.dtype}"
    count = f"{work['examples']} {'pairs' if job.what == 'dpo' else 'conversations'} of at most {job.length}"
    tail = f", reference {job.reference}" if job.what == "dpo" else ""
    return f"{name}{tail}: {count}, {work['tokens']:,} tokens, {work['supervised']:,} trained"


def bound(limit: dict[str, Any]) -> str:
    least, rate = limit["flops"] / 1e12, limit["rate"] / 1e9
    return f"{least:,.3g} TFLOP a step at least, best matrix rate {rate:,.0f} GFLOP/s"


def head(job: Job) -> str:
    done = "pairs/s" if job.what == "dpo" else "tokens/s"
    columns = ["s/step", "first", done, "of limit", "peak GiB", "first loss", "reference s"]
    return " " * 19 + "".join(f"{name:>12}" for name in columns[: 7 if job.reference == "precomputed" else 6])


def line(name: str, runs: Sequence[dict[str, Any]], job: Job, work: dict[str, Any], limit: Any) -> str:
    """Medians over the processes of one side."""
    taken = statistics.median(median(run) for run in runs)
    done = work["examples" if job.what == "dpo" else "tokens"] / taken
    cells = [
        f"{taken:.3f}",
        f"{statistics.median(run['seconds'][0] for run in runs):.3f}",
        f"{done:,.3f}" if job.what == "dpo" else f"{done:,.0f}",
        f"{limit['flops'] / limit['rate'] / taken:.1%}",
        f"{statistics.median(peak(run) for run in runs):.2f}",
        f"{runs[0]['losses'][0]:.6f}",
    ]
    if job.reference == "precomputed":
        cells.append(f"{statistics.median(run['precomputing'] for run in runs):.3f}")
    return f"  {name:<17}" + "".join(f"{cell:>12}" for cell in cells)


def ratio_line(peer: str, rows: Sequence[dict[str, Any]]) -> str:
    """How many times as fast we are, the median of the pairs and the least and most."""
    ratios = sorted(median(runs[peer]) / median(runs[OURS]) for runs in rows)
    memory = statistics.median(peak(runs[OURS]) / peak(runs[peer]) for runs in rows)
    spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {len(ratios)} pairs)"
    return (
        f"  {OURS} is {statistics.median(ratios):.2f} times as fast as {peer} {spread}, memory {memory:.2f}"
    )


def median(run: dict[str, Any]) -> float:
    """Seconds of a step, the warm-up left out."""
    return statistics.median(run["seconds"][1:])


def peak(run: dict[str, Any]) -> float:
    """GiB at most: of the device, where there is one."""
    return run["peak_gib"] if run["device_gib"] is None else run["device_gib"]


# ---------------------------------------------------------------------------------------- how it is measured


def side(job: Job, threads: int) -> dict[str, Any]:
    return measured("ours" if job.side == OURS else "peers", job.argument, threads)


def measured(script: str, argument: str, threads: int) -> dict[str, Any]:
    """What a script beside this one says of itself, in a fresh process."""
    command = [sys.executable, str(HERE / f"{script}.py"), argument]
    environment = {**os.environ, **QUIET, "OMP_NUM_THREADS": str(threads)}
    environment.setdefault("CUDA_VISIBLE_DEVICES", "0")
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if run.returncode:
        raise SystemExit(f"{run.stderr}\n{' '.join(command)} failed")
    return json.loads(run.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
