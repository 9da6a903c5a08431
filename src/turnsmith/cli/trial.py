"""The self-test of `turnsmith doctor`: arithmetic, the real loop on a made-up model, sampling, the shelf."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from turnsmith import wheels
from turnsmith.cli.doctor import Finding
from turnsmith.data.processes import usable_cores
from turnsmith.data.stream import Stream
from turnsmith.errors import TurnsmithError
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.recipes.forecast import EFFICIENCY, PRODUCT
from turnsmith.sample.engine import LocalEngine
from turnsmith.shelf import Shelf, digest
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place, device, faster_dtype
from turnsmith.trainables.install import install
from turnsmith.trainables.select import full
from turnsmith.types import Rendered, Sampling, Tokens

WORDS = 64  # ids that the made-up model knows; each is followed by the next one
LENGTH = 24
STEPS = 20
WORK = 4 * 134.5e6 * 61_084  # operations of the quickstart's training: LoRA on so many weights and tokens
EXPECTED = (RuntimeError, ValueError, OSError, ImportError, TurnsmithError)  # of a machine where it fails


def devices() -> Iterator[Finding]:
    """Threads of torch, and accelerators with their memory."""
    threads, usable = torch.get_num_threads(), usable_cores()
    if threads > usable:
        advice = f"torch uses {threads} threads on {usable:g} usable cores: set OMP_NUM_THREADS"
        yield Finding("threads", f"{threads}", "note", f"{advice}={max(1, int(usable))}")
    else:
        yield Finding("threads", f"{threads}")
    for number in range(torch.cuda.device_count()):
        free, total = (amount / 2**30 for amount in torch.cuda.mem_get_info(number))
        name = torch.cuda.get_device_name(number)
        yield Finding(f"cuda:{number}", f"{name}, {free:.1f} of {total:.1f} GiB free")
    if device() == "cpu":
        yield Finding("accelerator", "none: training runs on the processor")
    elif device() == "mps":
        yield Finding("accelerator", "mps")


def all_of_it() -> Iterator[Finding]:
    """Each part in turn; one that fails does not keep the others from being tried."""
    started = time.perf_counter()
    model = made_up()
    with TemporaryDirectory(prefix="turnsmith-doctor-") as directory:
        parts: dict[str, Callable[[], Finding]] = {
            "arithmetic": arithmetic,
            "training": lambda: training(model, Path(directory)),
            "sampling": lambda: sampling(model),
            "shelf": lambda: shelf(wheels.home() / "shelf"),
        }
        for name, part in parts.items():
            try:
                yield part()
            except EXPECTED as error:
                text = f"fails: {type(error).__name__}: {error}"
                yield Finding(name, text, "broken", f"{name} does not work here; the line above says why")
    yield Finding("self-test", f"{time.perf_counter() - started:.1f} s")


def arithmetic() -> Finding:
    """How fast products of matrices are in either dtype, and what that means for the quickstart."""
    faster, seconds = faster_dtype(device())
    speeds = {name: PRODUCT / taken for name, taken in seconds.items()}
    said = ", ".join(f"{name} {speed / 1e9:,.0f} GFLOP/s" for name, speed in speeds.items())
    minutes = WORK / (speeds[faster] * EFFICIENCY) / 60
    text = f"{said}; the quickstart would train for about {minutes:,.0f} minutes"
    other = "bfloat16" if faster == "float32" else "float32"
    times = speeds[faster] / speeds[other]
    advice = f"{faster} is {times:.1f} times as fast as {other} here: `dtype: auto` takes it"
    return Finding("arithmetic", text, "note", advice if times > 1.2 else "")


def training(model: torch.nn.Module, directory: Path) -> Finding:
    """A few steps of the real loop; the loss must fall to less than half."""
    forest.attach(model)
    whole = install(model.to(device()), full, {}, seed=0)
    losses: list[float] = []
    started = time.perf_counter()
    fit(
        Scoring(whole),
        Stream([example(n) for n in range(16)], batch=4, order="shuffled", seed=0),
        Method(sft, per="token", linear=True),
        Fit(steps=STEPS, batch=4, lr=1e-2, dtype="float32"),
        directory=directory,
        recorder=_Losses(losses),
        place=Place(device=device()),
        seed=0,
    )
    text = f"{STEPS} steps in {time.perf_counter() - started:.1f} s, loss {losses[0]:.2f} -> {losses[-1]:.2f}"
    if losses[-1] < losses[0] / 2:
        return Finding("training", text)
    return Finding("training", text, "broken", "training does not lower the loss: is torch whole?")


def sampling(model: torch.nn.Module) -> Finding:
    """What was learnt must be said: each id is followed by the next one."""
    engine = LocalEngine(model, stop=[WORDS - 1])
    started = time.perf_counter()
    (said,) = engine.generate([[3, 4, 5, 6]], sampling=Sampling(temperature=0.0, max_new=8), seeds=[0])
    text = f"{len(said.ids)} tokens in {time.perf_counter() - started:.1f} s"
    if list(said.ids) == list(range(7, 15)):
        return Finding("sampling", f"{text}, as they were learnt")
    return Finding("sampling", f"{text}, other than learnt", "broken", "sampling goes wrong: is torch whole?")


def shelf(root: Path) -> Finding:
    """An artefact is written, found again and removed."""
    store = Shelf(root)
    key = digest("doctor", os.getpid(), time.time())
    store.obtain(key, lambda directory: {"kind": "trial"})
    found = store.ready(key) and store.record(key) == {"kind": "trial"}
    shutil.rmtree(store.path(key))
    if found:
        return Finding("shelf", "written, read back, removed")
    return Finding("shelf", f"{root} does not give back what was written", "broken", "is the disk in order?")


class _Losses:
    """A recorder that keeps the loss of each step."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def step(self, values: Mapping[str, float]) -> None:
        self.losses.append(values["loss"])

    def rewind(self, step: int) -> None:
        del self.losses[step:]


def example(number: int) -> Rendered:
    """Ids that count up from `number`; all but the first are trained."""
    ids = np.array([(number + place) % WORDS for place in range(LENGTH)], np.int32)
    weights = np.ones(LENGTH, np.float32)
    weights[0] = 0
    tokens = Tokens(ids, ids, weights, np.zeros(LENGTH, np.int32))
    return Rendered(f"made-{number}", {"text": (tokens,)})


def made_up() -> torch.nn.Module:
    """A random Llama of two layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    random: Any = torch.random  # without types
    with random.fork_rng(devices=[]):
        random.manual_seed(0)
        return LlamaForCausalLM(config)
