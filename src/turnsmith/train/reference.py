"""Log-probs under the start of a step: computed once and stored, or beside every forward pass."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from turnsmith.data.batch import micro_batches
from turnsmith.errors import StorageError
from turnsmith.models.score import Scoring
from turnsmith.shelf import writing
from turnsmith.types import Batch, Rendered, Tokens


@torch.no_grad()
def precompute(
    scoring: Scoring,
    examples: Sequence[Rendered],
    layout: Callable[[Sequence[Rendered]], Batch],
    *,
    row: int,
    temperature: float,
    file: Path,
) -> list[Rendered]:
    """The examples with the extra `reference`: log-probs of their trained tokens under `scoring` as it is
    now.

    file: where they are stored. If it is there already it is read, since by then `scoring` has moved on.
    """
    if file.exists():
        flat = np.load(file)
    else:
        scoring.eval()
        found = [
            scoring(layout(run), temperature=temperature).logprobs.float().numpy(force=True)
            for run in micro_batches(examples, row)
        ]
        flat = np.concatenate(found)
        with writing(file):
            aside = file.with_suffix(f".{os.getpid()}.partial.npy")
            np.save(aside, flat)
            aside.replace(file)
    sequences = [tokens for x in examples for ones in x.parts.values() for tokens in ones]
    trained = sum(int(np.count_nonzero(tokens.weights)) for tokens in sequences)
    if len(flat) != trained:
        raise StorageError(f"{file} has {len(flat)} log-probs for {trained} tokens: remove it and run again")
    taken = 0

    def extended(tokens: Tokens) -> Tokens:
        nonlocal taken
        values = np.zeros(len(tokens), np.float32)
        at = np.flatnonzero(tokens.weights)
        values[at] = flat[taken : taken + len(at)]
        taken += len(at)
        return replace(tokens, extras={**tokens.extras, "reference": values})

    return [
        replace(example, parts={name: tuple(map(extended, ones)) for name, ones in example.parts.items()})
        for example in examples
    ]


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
    training = scoring.training
    scoring.eval()
    with model.disable_adapter():  # pyright: ignore[reportCallIssue]
        logprobs: Tensor = scoring(batch, temperature=temperature).logprobs
    scoring.train(training)
    return logprobs
