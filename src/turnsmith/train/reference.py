"""Log-probs under the start of a step: computed once and stored, or beside every forward pass."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from turnsmith.data.batch import Layout, deal, stretches
from turnsmith.data.store import sizes_of
from turnsmith.errors import StorageError
from turnsmith.models.modes import evaluating
from turnsmith.models.score import Scoring
from turnsmith.shelf import writing
from turnsmith.types import Batch, Rendered, Tokens


@torch.no_grad()
def precompute(
    scoring: Scoring,
    examples: Sequence[Rendered],
    layout: Layout,
    *,
    row: int,
    temperature: float,
    file: Path,
    wanted: np.ndarray | None = None,
) -> Extended:
    """The examples with the extra `reference`: log-probs of their trained tokens under `scoring` as it is
    now.

    file: where they are stored. If it is there already it is read, since by then `scoring` has moved on.
    wanted: indices of the examples that will be seen, ascending; the others stay as they are.
    """
    seen = np.arange(len(examples)) if wanted is None else wanted
    counts = sizes_of(examples)[1][seen]
    ends = np.cumsum(counts)
    trained = int(ends[-1]) if len(ends) else 0
    if not file.exists():
        scoring.eval()
        with writing(file):
            aside = file.with_suffix(f".{os.getpid()}.partial.npy")
            made = np.lib.format.open_memmap(aside, "w+", np.float32, (trained,))
            first = 0
            for window in stretches(Picked(examples, seen)):
                for run in deal(window, row, layout):
                    found = scoring(layout([window[index] for index in run]), temperature=temperature)
                    places = places_of(first + np.array(run), counts, ends)
                    made[places] = found.logprobs.float().numpy(force=True)
                first += len(window)
            made.flush()
            aside.replace(file)
    flat = np.load(file, mmap_mode="r")
    if len(flat) != trained:
        raise StorageError(f"{file} has {len(flat)} log-probs for {trained} tokens: remove it and run again")
    return Extended(examples, seen, ends, {"reference": flat})


def places_of(examples: np.ndarray, counts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Where the numbers of these examples' trained tokens are stored, one example behind the other.

    counts: trained tokens of each example; ends: their cumulated sum.
    """
    return np.concatenate([np.arange(int(ends[one] - counts[one]), int(ends[one])) for one in examples])


class Picked(Sequence[Rendered]):
    """Some of the examples, by their indices."""

    def __init__(self, examples: Sequence[Rendered], indices: np.ndarray) -> None:
        self.examples, self.indices = examples, indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, at: int) -> Rendered: ...
    @overload
    def __getitem__(self, at: slice) -> Picked: ...
    def __getitem__(self, at: int | slice) -> Rendered | Picked:
        found = self.indices[at]
        return Picked(self.examples, found) if isinstance(at, slice) else self.examples[int(found)]


class Extended(Sequence[Rendered]):
    """Examples, of which those that were scored get their extras, such as reference log-probs, when they are
    asked for.

    seen: their indices, ascending. ends: where each one's numbers end in the arrays of `extras`.
    """

    def __init__(
        self,
        examples: Sequence[Rendered],
        seen: np.ndarray,
        ends: np.ndarray,
        extras: Mapping[str, np.ndarray],
    ) -> None:
        self.examples, self.seen, self.ends, self.extras = examples, seen, ends, extras

    def __len__(self) -> int:
        return len(self.examples)

    @overload
    def __getitem__(self, at: int) -> Rendered: ...
    @overload
    def __getitem__(self, at: slice) -> Picked: ...
    def __getitem__(self, at: int | slice) -> Rendered | Picked:
        if isinstance(at, slice):
            return Picked(self, np.arange(len(self))[at])
        return self._with_own(range(len(self))[at])

    def _with_own(self, at: int) -> Rendered:
        """The example, with its extras if it was scored."""
        example = self.examples[at]
        place = int(self.seen.searchsorted(at))
        if place == len(self.seen) or self.seen[place] != at:
            return example
        taken = int(self.ends[place - 1]) if place else 0

        def extended(tokens: Tokens) -> Tokens:
            nonlocal taken
            trained = np.flatnonzero(tokens.weights)
            more = {name: np.zeros(len(tokens), np.float32) for name in self.extras}
            for name, flat in self.extras.items():
                more[name][trained] = flat[taken : taken + len(trained)]
            taken += len(trained)
            return replace(tokens, extras={**tokens.extras, **more})

        return replace(
            example, parts={name: tuple(map(extended, ones)) for name, ones in example.parts.items()}
        )


def live(scoring: Scoring, probe: Batch, *, temperature: float) -> Callable[[Batch], Tensor]:
    """A function that gives a batch's log-probs (N,) under `scoring` as it is now, whatever it learns later.

    With an adapter that starts at zero, which is verified on `probe`, the start is the model with the adapter
    off; else it is a frozen copy.
    """
    from peft import PeftModel

    model = scoring.model
    if isinstance(model, PeftModel):
        with torch.no_grad():
            scoring.eval()
            on = scoring(probe, temperature=temperature).logprobs
            with model.disable_adapter():
                off = scoring(probe, temperature=temperature).logprobs
        if torch.equal(on, off):
            return lambda batch: _without(model, scoring, batch, temperature)
    frozen = copy.deepcopy(scoring).eval().requires_grad_(False)

    @torch.no_grad()
    def reference(batch: Batch) -> Tensor:
        logprobs: Tensor = frozen(batch, temperature=temperature).logprobs
        return logprobs

    return reference


@torch.no_grad()
def _without(model: torch.nn.Module, scoring: Scoring, batch: Batch, temperature: float) -> Tensor:
    with evaluating(scoring), model.disable_adapter():  # pyright: ignore[reportCallIssue]
        logprobs: Tensor = scoring(batch, temperature=temperature).logprobs
    return logprobs
