"""Sampling from a GGUF file that llama.cpp runs in this process (the extra `llamacpp`).

llama.cpp gives the logits, and what is drawn from them is drawn here: its own sampler leaves the prompt out
of the penalties, and gives no log-probs. Prompts are read one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from turnsmith import seeds as keyed
from turnsmith.errors import ModelError, UsageError
from turnsmith.sample import able
from turnsmith.sample.choosing import Penalties, choose
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
        return self._stream(prompt, sampling, seed, ends)

    def _stream(
        self, prompt: Sequence[int], sampling: Sampling, seed: int, ends: Ends | None
    ) -> Generator[int, None, Completion]:
        uniforms = torch.from_numpy(keyed.array(seed, "sample").random(sampling.max_new, dtype=np.float32))
        penalties: Penalties | None = None
        if Penalties.wanted(sampling):
            penalties = Penalties(1, self._vocabulary, sampling, uniforms.device)
            penalties.begin(0, prompt)
        ids: list[int] = []
        logprobs: list[float] = []
        self._model.reset()
        for uniform in uniforms:
            logits = self._logits(ids[-1:] or prompt)
            allowed = penalties.adjusted([0], logits) if penalties else logits.clone()
            if len(ids) + 1 < sampling.min_new:
                allowed[0, list(self.stop)] = -torch.inf
            chosen, logprob = choose(logits, uniform[None], sampling, allowed)
            id = int(chosen[0])
            ids.append(id)
            logprobs.append(float(logprob[0]))
            if penalties:
                penalties.take(0, id)
            yield id
            if id in self.stop or (ends is not None and len(ids) >= sampling.min_new and ends(ids)):
                return Completion(tuple(ids), tuple(logprobs), "stop")
        return Completion(tuple(ids), tuple(logprobs), "length")

    def _logits(self, ids: Sequence[int]) -> Tensor:
        """What follows the tokens read so far and these: (1, V)."""
        try:
            self._model.eval(list(ids))
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
