"""Turnsmith's side of `step.py`, in a process of its own: a `train` step as recipes compose it.

Prints seconds and loss of each optimiser step, what was read, the seconds that precomputed references took,
and the peaks of memory.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from workload import Job

from turnsmith.data.batch import micro_batches, pack
from turnsmith.data.stream import Stream
from turnsmith.models import forest, load
from turnsmith.models.score import Scoring
from turnsmith.registry import Registry
from turnsmith.testing import Figures, method
from turnsmith.train import reference
from turnsmith.train.loop import Recorder, fit
from turnsmith.train.options import Fit
from turnsmith.train.place import Place, device, keep_memory
from turnsmith.train.record import peak_device_memory_gib, peak_memory_gib
from turnsmith.trainables.install import install
from turnsmith.types import Rendered, Tokens

SEED = 0


def main(job: Job) -> dict[str, Any]:
    """Fit, and say what it took."""
    recorder, examples = Figures(), given(job)
    with tempfile.TemporaryDirectory() as place:
        precomputing = fitted(job, examples, Path(place), recorder)
    return {
        "seconds": [row["seconds"] for row in recorder.rows],
        "losses": [row["loss"] for row in recorder.rows],
        "read": sum(len(one) for example in examples for ones in example.parts.values() for one in ones),
        "supervised": int(recorder.rows[0]["supervised"]),
        "precomputing": precomputing,
        "peak_gib": peak_memory_gib(),
        "device_gib": peak_device_memory_gib(),
    }


def given(job: Job) -> list[Rendered]:
    """The examples of the file as the loop takes them."""
    return [rendered(number, one) for number, one in enumerate(job.examples())]


def fitted(job: Job, examples: Sequence[Rendered], directory: Path, recorder: Recorder) -> float:
    """Fit as the job says; gives the seconds that precomputed references took."""
    keep_memory()
    options = Fit(
        steps=job.steps,
        batch=len(examples),
        row=job.row,
        length=job.length,
        order="given",
        lr=job.lr,
        schedule="constant",
        warmup=0.0,
        reference=job.reference,
        dtype=job.dtype,
        checkpoint=job.steps,
    )
    stream = Stream(examples, batch=options.batch, order=options.order, seed=SEED)
    scoring = Scoring(installed(job), autocast=job.dtype == "bfloat16")
    started, precomputing, live = time.perf_counter(), 0.0, None
    if job.what == "dpo" and job.reference == "precomputed":
        stream = referenced(stream, scoring, options, directory)
        precomputing = time.perf_counter() - started
    elif job.what == "dpo":
        live = reference.live(scoring, pack(next(micro_batches(examples, options.row))), temperature=1.0)
    fit(
        scoring,
        stream,
        method(job.what),
        options,
        directory=directory / "checkpoints",
        recorder=recorder,
        place=Place(device=device()),
        seed=SEED,
        layout=pack,
        reference=live,
    )
    return precomputing


def installed(job: Job) -> nn.Module:
    """The model as a `train` step loads it: what learns is fp32, what is frozen is in the job's dtype."""
    exact = job.trainable == "full" and load.holds_float32(job.model)
    dtype = "float32" if exact else job.dtype
    model, _ = load.load(job.model, dtype=dtype, device=device(), trainable=True)
    made = install(model, Registry().function("trainable", job.trainable), {}, seed=SEED)
    if refusal := forest.refusal(made):
        raise SystemExit(f"this model cannot be packed: {refusal}")
    forest.attach(made)
    return made


def referenced(stream: Stream, scoring: Scoring, options: Fit, directory: Path) -> Stream:
    """The stream with log-probs under the start."""
    examples = reference.precompute(
        scoring,
        stream.examples,
        pack,
        row=options.row,
        temperature=options.temperature,
        file=directory / "reference.npy",
    )
    return Stream(examples, batch=stream.batch, order=stream.order, seed=stream.seed)


def rendered(number: int, example: Mapping[str, list[int]]) -> Rendered:
    """One of them."""
    if "labels" in example:
        return Rendered(str(number), {"text": (tokens(example["input_ids"], example["labels"]),)})
    prompt = example["prompt_ids"]
    parts = {
        part: (tokens(prompt + ids, [-100] * len(prompt) + ids),)
        for part, ids in (("chosen", example["chosen_ids"]), ("rejected", example["rejected_ids"]))
    }
    return Rendered(str(number), parts)


def tokens(ids: list[int], labels: list[int]) -> Tokens:
    inputs = np.array(ids, np.int32)
    weights = (np.array(labels) != -100).astype(np.float32)
    return Tokens(inputs, inputs, weights, np.zeros(len(ids), np.int32))


if __name__ == "__main__":
    print(json.dumps(main(Job.read(sys.argv))))
