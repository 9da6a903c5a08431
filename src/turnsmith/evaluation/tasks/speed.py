"""How fast a model reads and writes, and how much memory that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from itertools import cycle, islice
from statistics import median
from typing import Any

import torch

from turnsmith.errors import ModelError, UsageError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.memory import peak_bytes
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import LocalEngine
from turnsmith.types import Sampling


@task("speed")
class Speed:
    """Tokens per second of reading a prompt and of writing behind it, and peak memory, one prompt at a time.

    Each item is one prompt; its seconds are the median of `repeats` runs after one that does not count.
    Prompts are equally many tokens of the general prompts, whatever the tokenizer, and no reply ends early,
    so that models do the same work. The seconds are this machine's, with all that ran on it; measured again
    they differ.

    count: how many prompts. reading: tokens of each. writing: tokens behind it.
    """

    title = "Speed and memory"
    note = (
        "One prompt at a time on the machine of this run. Memory: the weights, and the most that tensors "
        "took beyond them while reading and writing; what else the process holds does not count."
    )
    metrics = (
        Metric("tokens read", "read_per_second", "tokens per second", "higher", of="prompts"),
        Metric("tokens written", "written_per_second", "tokens per second", "higher", of="prompts"),
        Metric("peak memory", "memory_gib", "GiB", "lower", of="prompts"),
    )
    varies = "its seconds are those of this machine with all that runs on it"
    timed = ("read_per_second", "written_per_second", "reading_seconds", "writing_seconds")

    def __init__(self, *, count: int = 8, reading: int = 256, writing: int = 32, repeats: int = 3) -> None:
        if min(count, reading, writing, repeats) < 1:
            raise UsageError("speed: count, reading, writing and repeats must each be at least 1")
        self.count, self.reading, self.writing, self.repeats = count, reading, writing, repeats

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        engine = _engine(subject)
        sampling = Sampling(temperature=0.0, max_new=self.writing + 1)
        items = []
        for number, prompt in enumerate(self._prompts(subject), start=1):

            def work(prompt: Sequence[int] = prompt) -> None:
                engine.generate([prompt], sampling=sampling, seeds=[0])

            memory = peak_bytes(subject.scoring.model, work)
            runs = [_timed(engine, work) for _ in range(self.repeats)]
            reading, writing = (median(seconds) for seconds in zip(*runs, strict=True))
            values = {
                "reading_seconds": reading,
                "writing_seconds": writing,
                "read_per_second": self.reading / reading,
                "written_per_second": self.writing / writing,
                "memory_gib": memory / 2**30,
            }
            items.append(Item(str(number), "", values))
        return items

    def _prompts(self, subject: Subject) -> list[list[int]]:
        """Pieces of `reading` tokens of the general prompts, which begin anew where they end."""
        text = files("turnsmith.evaluation").joinpath("general", "prompts.jsonl").read_text("utf-8")
        ids: Any = subject.renderer.tokenizer(text, add_special_tokens=False)["input_ids"]
        endless = cycle(ids)
        return [list(islice(endless, self.reading)) for _ in range(self.count)]


def _engine(subject: Subject) -> LocalEngine:
    """The subject's own, or of its models in step, that no token ends."""
    chat = subject.chat
    if isinstance(chat, LocalChat) and isinstance(chat.engine, LocalEngine):
        return chat.engine.endless()
    raise ModelError(
        f"{subject.name} is asked through {type(chat).__name__}, whose speed is not the model's own"
    )


def _timed(engine: LocalEngine, work: Callable[[], None]) -> tuple[float, float]:
    """Seconds until the prompt was read, and from there to the last token."""
    start = time.perf_counter()
    with _passes(engine) as moments:
        work()
    return moments[0] - start, moments[-1] - moments[0]


@contextmanager
def _passes(engine: LocalEngine) -> Iterator[list[float]]:
    """When each pass through the model ended, as it runs; of models in step, of all of them."""
    moments: list[float] = []

    def note(*_: object) -> None:
        if engine.base.device.type == "cuda":
            torch.cuda.synchronize()
        moments.append(time.perf_counter())

    # Whoever leads is read last. The others are looked into as well, so that all go the same way.
    hooks = [engine.base.register_forward_hook(note)]
    hooks += [other.base.register_forward_hook(lambda *_: None) for other in engine.engines[1:]]
    try:
        yield moments
    finally:
        for hook in hooks:
            hook.remove()
