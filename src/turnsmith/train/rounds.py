"""What a model that learns makes for itself: examples that are collected round by round, and kept on the disk
before they are learnt from."""

from __future__ import annotations

import json
import shutil
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from turnsmith import seeds
from turnsmith.data import archive
from turnsmith.data.archive import Archive
from turnsmith.data.store import sizes_of
from turnsmith.data.stream import Order, Stream
from turnsmith.errors import StorageError
from turnsmith.phases import phase
from turnsmith.shelf import put, writing
from turnsmith.train import health
from turnsmith.train.reference import Extended
from turnsmith.types import Example, Rendered

EXAMPLES, EXTRAS, SAID = "examples.jsonl", "extras.safetensors", "said.json"


@dataclass(frozen=True, slots=True)
class Spent:
    """What collecting took. usage: tokens that chats read, `prompt`, and wrote, `completion`. flops: of these
    and of the passes before learning. counts: of what was left out or cut, by reason."""

    usage: Mapping[str, int] = field(default_factory=dict[str, int])
    flops: float = 0.0
    seconds: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Making:
    """How a round is made, in this order.

    gather: the examples of a round, by its number, from the model as it is, and what they took. render: what
    is read of them, as tokens, counting what is cut or dropped. credit: numbers for each trained token of
    these, by name, and the operations that they took.
    """

    gather: Callable[[int], tuple[Sequence[Example], Spent]]
    render: Callable[[Sequence[Example], Counter[str]], Sequence[Rendered]]
    credit: Callable[[Sequence[Rendered]], tuple[Mapping[str, np.ndarray], float]]


class Rounds:
    """Windows over rounds: of each, `epochs` epochs of what came out, in windows of `batch` or all there are.

    directory: where rounds are kept; one is there whole or not at all, and never made twice. A round's number
    of steps follows from its size, so rounds are begun in their order, by `reach`.
    """

    def __init__(
        self,
        directory: Path,
        making: Making,
        *,
        epochs: int,
        batch: int,
        order: Order,
        seed: int,
        view: Callable[[Rendered, int, int], Rendered] | None = None,
    ) -> None:
        self.directory, self.making = directory, making
        self.epochs, self.batch, self.seed, self.view = epochs, batch, seed, view
        self.order: Order = order
        self._ends: list[int] = []  # the step that each round ends before
        self._stream: Stream | None = None  # of the last one
        self._figures: Mapping[str, float] = {}

    @property
    def examples(self) -> Sequence[Rendered]:
        """Those of the round that was reached last."""
        return self._stream.examples if self._stream else ()

    def reach(self, step: int) -> Mapping[str, float]:
        """Make all rounds up to that of the step; gives figures of what was drawn for it.

        Raises StorageError where one before it is gone: the model is no longer the one that would make it.
        """
        while not self._ends or step >= self._ends[-1]:
            number, first = len(self._ends), self._ends[-1] if self._ends else 0
            path = self.directory / f"{number:05}"
            if not path.is_dir():
                if step != first:
                    raise StorageError(
                        f"the round {path} is gone, and the run has learnt from it: remove "
                        f"{self.directory.parent} and run again"
                    )
                self._collect(number, path)
            said = self._said(path)
            self._ends.append(first + said["steps"])
            if step < self._ends[-1]:
                self._stream, self._figures = self._opened(number, path), said.get("figures", {})
        return self._figures

    def window(self, step: int) -> list[Rendered]:
        """The examples of a step of the round that was reached last."""
        assert self._stream is not None
        first = self._ends[-2] if len(self._ends) > 1 else 0
        found = self._stream.window(step - first)
        if self.view is None:
            return found
        return [self.view(example, step, place) for place, example in enumerate(found)]

    def epoch(self, step: int) -> int:
        """The round that a step is in: what is chosen anew each epoch is chosen anew with each."""
        return bisect_right(self._ends, step)

    def spent(self) -> Spent:
        """What all rounds took together."""
        usage: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        flops = seconds = 0.0
        for number in range(len(self._ends)):
            said = self._said(self.directory / f"{number:05}")
            usage.update(said["usage"])
            counts.update(said["counts"])
            flops, seconds = flops + said["flops"], seconds + said["seconds"]
        return Spent(dict(usage), flops, seconds, dict(counts))

    @phase("collect")
    def _collect(self, number: int, path: Path) -> None:
        """Make a round and write it down."""
        started = time.perf_counter()
        aside = path.with_suffix(".partial")
        shutil.rmtree(aside, ignore_errors=True)
        with writing(aside):
            aside.mkdir(parents=True)
            examples, spent = self.making.gather(number)
            kept = archive.write(aside / EXAMPLES, examples)
            counts = Counter(spent.counts)
            rendered = self.making.render(kept, counts)
            extras, flops = self.making.credit(rendered)
            save_file(dict(extras), aside / EXTRAS)
            steps = max(1, round(self.epochs * len(rendered) / self._window(rendered)))
            said = {**asdict(spent), "flops": spent.flops + flops, "counts": counts}
            said["figures"] = health.drawn(kept)
            said["seconds"] = time.perf_counter() - started
            (aside / SAID).write_text(json.dumps({**said, "examples": len(rendered), "steps": steps}))
            put(aside, path)

    def _opened(self, number: int, path: Path) -> Stream:
        """A round as it was written down."""
        rendered = self.making.render(Archive([path / EXAMPLES]), Counter())
        try:
            extras = load_file(path / EXTRAS)
        except (OSError, SafetensorError) as error:
            raise self._broken(path, error) from None
        ends = np.cumsum(sizes_of(rendered)[1])
        examples = Extended(rendered, np.arange(len(rendered)), ends, extras) if extras else rendered
        seed = seeds.number(self.seed, "round", number)
        return Stream(examples, batch=self._window(rendered), order=self.order, seed=seed)

    def _window(self, rendered: Sequence[Rendered]) -> int:
        return min(self.batch, len(rendered))

    def _said(self, path: Path) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((path / SAID).read_text())
        except (OSError, ValueError) as error:
            raise self._broken(path, error) from None
        return found

    def _broken(self, path: Path, error: Exception) -> StorageError:
        return StorageError(
            f"the round {path} is broken ({error}): remove {self.directory.parent} and run again"
        )
