"""Sampling in batches from a model in this process, with log-probs that equal what `models/score.py` gives.

Each prompt has random numbers of its own, so a reply does not depend on what else is in the batch, beyond the
rounding of matrix products of another size.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

from turnsmith import seeds as keyed
from turnsmith.errors import ModelError, UsageError
from turnsmith.types import Completion, Sampling

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

SLOTS = 2**15  # cached tokens of one batch: 0.75 GB for SmolLM2-135M in bf16
SLAB = 4 * 2**20  # bytes of fp32 logits that are worked on at once: they then stay in a core's cache
PADDING = 1  # column more than needed: on a CPU, attention with grouped queries is 4x slower without a mask
SHARED = 16  # from this length on a prefix that all prompts share is computed once
CANDIDATES = 256  # most top-p sets are smaller; sorting a whole vocabulary takes as long as a forward pass
_LAYERS = {"full_attention", "sliding_attention"}  # of the layer types in transformers' configs


class LocalEngine:
    """Draws tokens from `model`, a causal language model or a peft model of one, and leaves it as it was.

    stop: ids that end a completion. rows: prompts decoded at once, at most. autocast: compute in bf16.
    adapters: False draws from the model under the peft adapter.
    Raises ModelError where the model cannot be decoded in padded batches.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        stop: Sequence[int],
        rows: int = 128,
        autocast: bool = False,
        adapters: bool = True,
    ) -> None:
        if reason := refusal(model):
            raise ModelError(reason)
        if not adapters and not hasattr(model, "disable_adapter"):
            raise ModelError(f"{type(model).__name__} has no peft adapter that could be switched off.")
        self.model, self.stop, self.rows = model, tuple(stop), rows
        self.autocast, self.adapters = autocast, adapters

    @property
    def base(self) -> PreTrainedModel:
        """The transformers model itself, adapters included where they replaced its layers."""
        return _base(self.model)

    @property
    def context(self) -> int | None:
        """How many tokens prompt and reply may have together; None where the model knows no limit."""
        return getattr(_config(self.base), "max_position_embeddings", None)

    def without_adapter(self) -> LocalEngine:
        """An engine on the same weights with the peft adapter off: the model that tuning started from."""
        return LocalEngine(self.model, stop=self.stop, rows=self.rows, autocast=self.autocast, adapters=False)

    def generate(
        self, prompts: Sequence[Sequence[int]], *, sampling: Sampling, seeds: Sequence[int]
    ) -> list[Completion]:
        """One completion per prompt, in their order. Log-probs are at the temperature, before any truncation.

        Raises UsageError for an empty prompt and ModelError for one that is too long, before any work.
        """
        self._check(prompts, seeds, sampling.max_new)
        found: dict[int, Completion] = {}
        with self._ready():
            for batch in batches(prompts, self.rows, sampling.max_new):
                decoding = _Decoding(self, [prompts[i] for i in batch], [seeds[i] for i in batch], sampling)
                while decoding.running:
                    decoding.step()
                found.update(zip(batch, decoding.completions(), strict=True))
        return [found[i] for i in range(len(prompts))]

    def stream(
        self, prompt: Sequence[int], *, sampling: Sampling, seed: int
    ) -> Generator[int, None, Completion]:
        """The ids of one completion as they are drawn; the generator's return value is the completion."""
        self._check([prompt], [seed], sampling.max_new)
        return self._stream(prompt, sampling, seed)

    def _stream(
        self, prompt: Sequence[int], sampling: Sampling, seed: int
    ) -> Generator[int, None, Completion]:
        decoding = _Decoding(self, [prompt], [seed], sampling)
        while decoding.running:
            with self._ready():  # not around the loop: the model belongs to the caller between two tokens
                token = decoding.step()
            yield int(token[0])
        return decoding.completions()[0]

    def _check(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], max_new: int) -> None:
        if len(prompts) != len(seeds):
            raise UsageError(f"{len(prompts)} prompts came with {len(seeds)} seeds: give one seed for each.")
        embeddings: Any = self.base.get_input_embeddings()
        vocabulary = embeddings.weight.shape[0]
        for index, prompt in enumerate(prompts):
            if not len(prompt):
                raise UsageError(f"prompt {index} is empty: there is nothing to continue.")
            if not 0 <= min(prompt) <= max(prompt) < vocabulary:
                raise ModelError(f"prompt {index} holds ids that are not below the model's {vocabulary}.")
            if self.context is not None and len(prompt) + max_new > self.context:
                raise ModelError(
                    f"prompt {index} has {len(prompt)} tokens and {max_new} may follow, but the model's "
                    f"context ends at {self.context}: shorten the prompt or lower max_new."
                )

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """The model in evaluation, its adapter on or off, without gradients; afterwards all as before."""
        training = [module for module in self.model.modules() if module.training]
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        whole: Any = self.model
        try:
            with ExitStack() as stack:
                whole.eval()
                if not self.adapters:
                    stack.enter_context(whole.disable_adapter())
                if self.autocast:
                    stack.enter_context(torch.autocast(self.base.device.type, torch.bfloat16))
                if self.autocast and hasattr(whole, "peft_config"):
                    from peft.helpers import disable_input_dtype_casting

                    stack.enter_context(disable_input_dtype_casting(whole))  # adapters take bf16 as it comes
                # The model slices the last states out of all: torch would copy a frozen head for each row.
                head: Any = self.base.get_output_embeddings()
                hook = head.register_forward_pre_hook(lambda module, states: states[0].contiguous())
                stack.callback(hook.remove)
                stack.enter_context(torch.inference_mode())
                yield
        finally:
            for module in training:
                module.training = True
            if not self.adapters:  # peft lets every adapter weight learn when it switches them on again
                for parameter in whole.parameters():
                    parameter.requires_grad_(False)
                for parameter in learning:
                    parameter.requires_grad_(True)


def refusal(model: nn.Module) -> str | None:
    """Why `model` cannot decode prompts of several lengths together, as a sentence, or None if it can."""
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        return "Soft prompts take positions of their own: a model with them cannot be sampled from yet."
    base = _base(model)
    config = _config(base)
    if base.config.is_encoder_decoder:
        return f"{type(base).__name__} is an encoder-decoder: it does not continue its prompts."
    strange = sorted(set(getattr(config, "layer_types", None) or ()) - _LAYERS)
    if strange or getattr(base, "_is_stateful", False):
        return f"{type(base).__name__} has layers that read padding ({', '.join(strange) or 'recurrent'})."
    if missing := {"position_ids", "logits_to_keep"} - set(inspect.signature(base.forward).parameters):
        return f"{type(base).__name__} takes no {', no '.join(sorted(missing))}: its rows cannot be padded."
    return None


def batches(prompts: Sequence[Sequence[int]], rows: int, max_new: int) -> list[list[int]]:
    """Indices of the prompts in batches of like length and size, longest first, within `rows` and SLOTS."""
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), tuple(prompts[i])))
    found = []
    while order:
        fitting = max(1, min(rows, SLOTS // (len(prompts[order[0]]) + 1 + max_new)))
        size = -(-len(order) // -(-len(order) // fitting))  # as many batches as needed, all of about one size
        found.append(order[:size])
        order = order[size:]
    return found


# ------------------------------------------------------------------------------------------ one token


def choose(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The next id (B,) of each row of `logits` (B, V), and its log-prob (B,) before truncation.

    uniforms: (B,) in [0, 1), not read at temperature 0. Raises ModelError where the logits are no numbers.
    """
    height = max(1, SLAB // (4 * logits.shape[1]))
    slabs = zip(logits.split(height), uniforms.split(height), strict=True)
    chosen = [_choose(part, uniform, sampling) for part, uniform in slabs]
    return torch.cat([ids for ids, _ in chosen]), torch.cat([logprobs for _, logprobs in chosen])


def _choose(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logprobs = (wide / (sampling.temperature or 1.0)).log_softmax(1)
    best, ids = logprobs.max(1)
    if not bool(best.isfinite().all()):
        raise ModelError(
            "the model's logits are no numbers: are its weights broken, or its dtype too narrow?"
        )
    if sampling.temperature > 0:
        ids = draw(truncated(logprobs, sampling), uniforms)
    return ids, logprobs.gather(1, ids[:, None])[:, 0]


def truncated(logprobs: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities (B, V), 0 outside of the top-k, then outside of the top-p set of those; not normalised.

    The top-p set is the smallest one of most probable tokens whose share is at least top_p.
    Source: Holtzman et al. 2020, eq. 2 and 3.
    """
    vocabulary = logprobs.shape[1]
    if sampling.top_p == 1 and not 0 < sampling.top_k < vocabulary:
        return logprobs.exp()
    width = min(vocabulary, sampling.top_k or CANDIDATES)
    best, ids = logprobs.topk(width, dim=1)
    while not sampling.top_k and width < vocabulary and bool((best.exp().sum(1) < sampling.top_p).any()):
        width = min(vocabulary, 16 * width)
        best, ids = logprobs.topk(width, dim=1)
    best = best.exp()
    total = best.sum(1, keepdim=True) if sampling.top_k else 1.0
    if sampling.top_p < 1:
        best = best.where(best.cumsum(1) - best < sampling.top_p * total, 0.0)
    return torch.zeros_like(logprobs).scatter_(1, ids, best)


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Ids (B,): the inverse of the distribution function at `uniforms` (B,) in [0, 1).

    probabilities: (B, V), not normalised. The function runs in the order of the vocabulary, not of the
    probabilities: where two of them are nearly equal, rounding would exchange their places.
    """
    edges = probabilities.cumsum(1)
    return torch.searchsorted(edges, uniforms[:, None] * edges[:, -1:], right=True)[:, 0]


# --------------------------------------------------------------------------------- a batch under way


class _Layer(DynamicLayer):
    """Keys and values of one layer in memory taken once. DynamicLayer copies them all at every token instead.

    capacity: tokens of a row. dtype: what they are kept in, or None for what they come in.
    """

    def __init__(self, capacity: int, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.capacity, self.kept = capacity, dtype
        self.whole: list[Tensor] = []  # keys and values, (B, heads, capacity, D) each

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **options: object
    ) -> tuple[Tensor, Tensor]:
        new = (key_states, value_states)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.whole = [
                x.new_empty(*x.shape[:2], self.capacity, x.shape[3], dtype=self.kept or x.dtype) for x in new
            ]
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        for whole, states in zip(self.whole, new, strict=True):
            whole[:, :, start:end] = states
        self.keys, self.values = (whole[:, :, :end] for whole in self.whole)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Makes the rows `indices` of now the rows; a row may be taken more than once."""
        if not self.whole:
            return
        used = self.get_seq_length()
        for place, whole in enumerate(self.whole):
            self.whole[place] = whole.new_empty(len(indices), *whole.shape[1:])
            self.whole[place][:, :, :used] = whole[indices, :, :used]
        self.keys, self.values = (whole[:, :, :used] for whole in self.whole)


class _Decoding:
    """P prompts under way, B of them still in the batch; the padded prompts have W columns.

    Columns of a row: what all prompts share, padding, the rest of the prompt, what is drawn.
    """

    last: Tensor  # (B,) the ids drawn last
    position: Tensor  # (B,) and their positions

    def __init__(
        self,
        engine: LocalEngine,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> None:
        self.base, self.sampling, self.drawn = engine.base, sampling, 0
        self.prompts = list(dict.fromkeys(tuple(prompt) for prompt in prompts))  # equal ones are read once
        self.device = device = self.base.device
        self.copies = torch.tensor([self.prompts.index(tuple(prompt)) for prompt in prompts], device=device)
        uniforms = [keyed.array(seed, "sample").random(sampling.max_new, dtype=np.float32) for seed in seeds]
        self.uniforms = torch.from_numpy(np.stack(uniforms)).to(device)  # (P, max_new)
        self.stop = torch.tensor(engine.stop, dtype=torch.long, device=device)
        self.ids = torch.zeros(len(prompts), sampling.max_new, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(len(prompts), sampling.max_new, device=device)
        self.lengths = torch.zeros(len(prompts), dtype=torch.long, device=device)  # 0 while under way
        self.place = torch.arange(len(prompts), device=device)  # (B,) which prompt each row is
        # Under autocast keys come in fp32 and are read in bf16: kept in bf16, they are cast only once.
        dtype = torch.bfloat16 if engine.autocast else None
        self.width = max(map(len, prompts)) + PADDING
        capacity, count = self.width + sampling.max_new, _config(self.base).num_hidden_layers
        layers = [_Layer(capacity, dtype) for _ in range(count)]
        self.cache = Cache(layers=layers)  # pyright: ignore[reportArgumentType] - a list is invariant

    @property
    def running(self) -> bool:
        return bool((self.lengths == 0).any())

    def step(self) -> Tensor:
        """Draws one more token in each row: (B,)."""
        logits = self._read(self.last[:, None], self.position[:, None]) if self.drawn else self._prefill()
        ids, logprobs = choose(logits, self.uniforms[self.place, self.drawn], self.sampling)
        self.ids[self.place, self.drawn] = self.last = ids
        self.logprobs[self.place, self.drawn] = logprobs.float()
        self.position = self.position + 1
        self.drawn += 1
        ended = torch.isin(ids, self.stop) | (self.drawn == self.sampling.max_new)
        self.lengths[self.place[ended & (self.lengths[self.place] == 0)]] = self.drawn
        self._compact()
        return ids

    def completions(self) -> list[Completion]:
        """What was drawn, in the order of the prompts."""
        stops = set(self.stop.tolist())
        drawn = zip(self.ids.tolist(), self.logprobs.tolist(), self.lengths.tolist(), strict=True)
        return [
            Completion(tuple(ids[:n]), tuple(logprobs[:n]), "stop" if ids[n - 1] in stops else "length")
            for ids, logprobs, n in drawn
        ]

    def _prefill(self) -> Tensor:
        """Reads the prompts and gives the logits (P, V) after each."""
        shared = _shared(self.prompts, _config(self.base))
        rows = [(*p[:shared], *[-1] * (self.width - len(p)), *p[shared:]) for p in self.prompts]
        ids = torch.tensor(rows, device=self.device)
        self.mask = nn.functional.pad(ids >= 0, (0, self.sampling.max_new), value=True)
        positions = ((ids >= 0).cumsum(1) - 1).clamp_min(0)
        ids = ids.clamp_min(0)
        if shared:
            self._read(ids[:1, :shared], positions[:1, :shared])
            self.cache.batch_select_indices(ids.new_zeros(len(ids)))
        logits = self._read(ids[:, shared:], positions[:, shared:])
        self.position = positions[:, -1]
        self._select(self.copies)
        return logits[self.copies]

    def _read(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Logits (B, V) after the next columns of the batch, `ids` (B, columns)."""
        seen = self.cache.get_seq_length() + ids.shape[1]
        output = self.base(
            input_ids=ids,
            attention_mask=self.mask[: len(ids), :seen],
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]

    def _compact(self) -> None:
        """Drops the rows that have ended once they are half of the batch: not sooner, it copies the cache."""
        alive = (self.lengths[self.place] == 0).nonzero()[:, 0]
        if 0 < 2 * len(alive) <= len(self.place):
            self.place, self.last = self.place[alive], self.last[alive]
            self._select(alive)

    def _select(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask, self.position = self.mask[rows], self.position[rows]


def _shared(prompts: Sequence[tuple[int, ...]], config: PretrainedConfig) -> int:
    """How many tokens at the start of all prompts are read once; at least one of each is left."""
    if len(prompts) < 2 or getattr(config, "sliding_window", None) or getattr(config, "window_size", None):
        return 0  # windows are counted in columns: padding inside a prompt would shorten them
    # Sorted as sequences, the first and the last differ where any two do.
    first, last = min(prompts), max(prompts)
    most = min(map(len, prompts)) - 1
    found = next((i for i in range(most) if first[i] != last[i]), most)
    return found if found >= SHARED else 0


def _base(model: nn.Module) -> PreTrainedModel:
    whole: Any = model
    return whole.get_base_model() if hasattr(whole, "get_base_model") else whole


def _config(base: PreTrainedModel) -> PretrainedConfig:
    return base.config.get_text_config(decoder=True)
