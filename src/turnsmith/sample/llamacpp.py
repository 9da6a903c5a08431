"""Sampling from a GGUF file that llama.cpp runs in this process (the extra `llamacpp`).

llama.cpp gives the logits, and what is drawn from them is drawn here: its own sampler leaves the prompt out
of the penalties, and gives no log-probs. Prompts are read one after the other, each from where it parts with
the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from turnsmith import seeds as keyed
from turnsmith.errors import ModelError, UsageError
from turnsmith.sample import able
from turnsmith.sample.choosing import Penalties, choose
from turnsmith.sample.rows import common
from turnsmith.types import Completion, Sampling

Ends = Callable[[Sequence[int]], bool]
CONTEXT = (
    8192  # tokens that keys and values are kept for: 1 GiB of an 8B model; files promise up to 100 times
)


class LlamaCppEngine:
    """Draws tokens from the model in `file`.

    stop: ids that end a completion. context: tokens that prompt and reply may have together, at most those
    that the file says. Raises UsageError where llama.cpp is not installed, ModelError where it cannot load
    the file.
    """

    def __init__(self, file: Path, *, stop: Sequence[int], context: int = CONTEXT) -> None:
        try:
            import llama_cpp  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UsageError("llama.cpp is not installed: pip install 'turnsmith[llamacpp]'") from None
        self.file, self.stop, self._library = file, tuple(stop), llama_cpp
        try:
            self._model: Any = llama_cpp.Llama(str(file), n_ctx=context, n_gpu_layers=-1, verbose=False)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"llama.cpp cannot load {file}: {error}") from error
        self._vocabulary: int = self._model.n_vocab()
        known: dict[str, str] = self._model.metadata
        trained = known.get(f"{known.get('general.architecture')}.context_length")
        self.context = min(context, int(trained)) if trained else context
        self._read: list[int] = []  # what keys and values are of
        self._remembering = False

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Calls within go on from what the one before has read; else only prompts of one call do."""
        self._read, self._remembering = [], True
        try:
            yield
        finally:
            self._remembering = False

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        seeds: Sequence[int],
        ends: Ends | None = None,
    ) -> list[Completion]:
        """One completion per prompt, in their order. Log-probs are at the temperature, before penalties and
        truncation. ends: whether these ids end a reply.

        Raises UsageError for an empty prompt and for what `able` says that this lacks, ModelError for a
        prompt that is too long, before any work.
        """
        self._check(prompts, seeds, sampling)
        self._forget()
        return [
            _all(self._stream(prompt, sampling, seed, ends))
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def stream(
        self, prompt: Sequence[int], *, sampling: Sampling, seed: int, ends: Ends | None = None
    ) -> Generator[int, None, Completion]:
        """The ids of one completion as they are drawn; the generator's return value is the completion. Until
        it has ended nothing else may be drawn."""
        self._check([prompt], [seed], sampling)
        self._forget()
        return self._stream(prompt, sampling, seed, ends)

    def _stream(
        self, prompt: Sequence[int], sampling: Sampling, seed: int, ends: Ends | None
    ) -> Generator[int, None, Completion]:
        uniforms = torch.from_numpy(keyed.array(seed, "sample").random(sampling.max_new, dtype=np.float32))
        penalties: Penalties | None = None
        if Penalties.wanted(sampling):
            penalties = Penalties(1, self._vocabulary, uniforms.device)
            penalties.begin(0, prompt, sampling)
        ids: list[int] = []
        logprobs: list[float] = []
        left = self._left(prompt)
        for uniform in uniforms:
            logits = self._logits(ids[-1:] or left)
            allowed = penalties.adjusted([0], logits) if penalties else logits.clone()
            if len(ids) + 1 < sampling.min_new:
                allowed[0, list(self.stop)] = -torch.inf
            chosen, logprob = choose(logits, uniform[None], [sampling], allowed)
            id = int(chosen[0])
            ids.append(id)
            logprobs.append(float(logprob[0]))
            if penalties:
                penalties.take(0, id)
            yield id
            if id in self.stop or (ends is not None and len(ids) >= sampling.min_new and ends(ids)):
                return Completion(tuple(ids), tuple(logprobs), "stop")
        return Completion(tuple(ids), tuple(logprobs), "length")

    def _forget(self) -> None:
        """What earlier calls have read, unless these are remembered."""
        if not self._remembering:
            self._read = []

    def _left(self, prompt: Sequence[int]) -> Sequence[int]:
        """What of the prompt is still to be read; keys and values are those of what stands before it."""
        shared = min(common(self._read, prompt), len(prompt) - 1)
        model, library = self._model, self._library
        # Models with a state in place of keys cannot go back to a part of what they read, and say so.
        if shared and library.llama_memory_seq_rm(library.llama_get_memory(model.ctx), 0, shared, -1):
            model.n_tokens = shared
        else:
            shared = 0
            model.reset()
        self._read = [*prompt[:shared]]
        return prompt[shared:]

    def _logits(self, ids: Sequence[int]) -> Tensor:
        """What follows the tokens read so far and these: (1, V)."""
        try:
            self._model.eval(list(ids))
            self._read += ids
        except RuntimeError as error:
            raise ModelError(f"llama.cpp cannot go on with {self.file}: {error}") from error
        found = self._library.llama_get_logits_ith(self._model.ctx, -1)
        logits = np.ctypeslib.as_array(found, shape=(1, self._vocabulary))
        return torch.from_numpy(logits.copy())  # llama.cpp overwrites them

    def _check(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling) -> None:
        able.refuse(sampling, "gguf", str(self.file))
        if len(prompts) != len(seeds):
            raise UsageError(f"{len(prompts)} prompts came with {len(seeds)} seeds: give one seed for each.")
        for index, prompt in enumerate(prompts):
            if not len(prompt):
                raise UsageError(f"prompt {index} is empty: there is nothing to continue.")
            if not 0 <= min(prompt) <= max(prompt) < self._vocabulary:
                raise ModelError(
                    f"prompt {index} holds ids that are not below the model's {self._vocabulary}."
                )
            if len(prompt) + sampling.max_new > self.context:
                raise ModelError(
                    f"prompt {index} has {len(prompt)} tokens and {sampling.max_new} may follow, but the "
                    f"context ends at {self.context}: shorten the prompt or lower max_new."
                )


def _all(tokens: Generator[int, None, Completion]) -> Completion:
    """What a generator comes to."""
    while True:
        try:
            next(tokens)
        except StopIteration as end:
            return end.value
