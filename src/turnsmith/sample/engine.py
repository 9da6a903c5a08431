"""Sampling in batches from a model in this process, with log-probs that equal what `models/score.py` gives.

Each prompt has random numbers of its own, so a reply does not depend on what else is in the batch, beyond the
rounding of matrix products of another size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from threading import Event
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from turnsmith import album
from turnsmith.errors import ModelError, UsageError
from turnsmith.models import fronts
from turnsmith.models.bare import bare, context
from turnsmith.models.heads import Head
from turnsmith.models.modes import evaluating
from turnsmith.sample.decoding import Decoding, Drafter, Request
from turnsmith.sample.float16 import Weights
from turnsmith.sample.lean import Lean
from turnsmith.sample.lockstep import Beside, Lockstep, read_in_step
from turnsmith.sample.packed import Packed, unrounded, version
from turnsmith.sample.reading import read_prompts
from turnsmith.sample.rows import BASE, Known, Rows
from turnsmith.types import Completion, Sampling

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from turnsmith.sample.guides import Guide

SLOTS = 2**15  # tokens held of the prompts and replies under way: 0.75 GB for SmolLM2-135M in bf16
KEPT = 2**16  # and of earlier calls, where these are remembered
_LAYERS = {"full_attention", "sliding_attention"}  # of the layer types in transformers' configs
_MASKED = {"sdpa", "eager", "turnsmith"}  # attention that goes by a mask for each row


class LocalEngine:
    """Draws tokens from `model`, a causal language model or a peft model of one, and leaves it as it was.

    stop: ids that end a completion. rows: prompts decoded at once, at most. autocast: compute in bf16.
    adapters: False draws from the model under the peft adapter. drafter: guesses ahead, which changes the
    time and not the tokens. kept: tokens of earlier calls that are remembered until the weights change, so
    that a prompt which goes on from one of them is read from there; what is drawn then depends on earlier
    calls, as far as rounding goes. weights: `float16` rounds those of linear layers to 11 significant bits,
    in a copy, for half of the bytes to read; log-probs are then those of the rounded model, not what `score`
    gives, and nothing to train by. Weights that have no more bits are kept so anyway. beside: what reads in
    step with the model, so that tokens are drawn from what all of them say; stop and ids are the model's own.
    Raises ModelError where the model cannot be decoded in padded batches, or in weights of that kind.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        stop: Sequence[int],
        rows: int = 128,
        autocast: bool = False,
        adapters: bool = True,
        drafter: Drafter | None = None,
        kept: int = 0,
        weights: Weights = "exact",
        beside: Beside | None = None,
    ) -> None:
        if reason := refusal(model):
            raise ModelError(reason)
        if not adapters and not hasattr(model, "disable_adapter"):
            raise ModelError(f"{type(model).__name__} has no peft adapter that could be switched off.")
        self.model, self.stop, self.rows = model, tuple(stop), rows
        self.autocast, self.adapters = autocast, adapters
        self.drafter, self.kept, self.beside = drafter, kept, beside
        self.weights: Weights = weights
        dtype = torch.bfloat16 if autocast else None
        if weights == "float16" and (reason := unrounded(self.base, dtype)):
            raise ModelError(reason)
        heads = beside is not None and bool(beside.heads)  # these want states that `Lean` does not show
        able = Lean.able(self.base, dtype) and self.base is model and not heads
        self._lean = Lean(self.base, dtype, weights) if able else None
        self._packed = Packed(self.base, dtype, weights)
        self._known: list[Rows | Lockstep] = []  # of earlier calls, the last one last
        self._remembering = False
        self._weights: tuple[object, ...] = ()  # that these were read by

    @property
    def base(self) -> PreTrainedModel:
        """The transformers model itself, adapters included where they replaced its layers."""
        found: Any = bare(self.model)
        return found

    @property
    def vocabulary(self) -> int:
        """How many ids the model's logits are of."""
        head: Any = self.base.get_output_embeddings()
        return int(head.weight.shape[0])

    @property
    def context(self) -> int | None:
        """How many tokens prompt and reply may have together; None where no model knows a limit."""
        known = [context(engine.base) for engine in self.engines]
        return min((limit for limit in known if limit is not None), default=None)

    @property
    def engines(self) -> list[LocalEngine]:
        """This one, and those of the models in step."""
        return [self, *(self.beside.members.values() if self.beside else ())]

    def endless(self) -> LocalEngine:
        """An engine on the same weights that no token ends."""
        same: Any = {"rows": self.rows, "autocast": self.autocast, "weights": self.weights}
        same |= {"adapters": self.adapters, "drafter": self.drafter, "beside": self.beside}
        return LocalEngine(self.model, stop=(), **same)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Calls within remember each other, and nothing that was before the outermost of such blocks."""
        if self._remembering:
            yield
            return
        earlier, self.kept, self._known = self.kept, max(KEPT, self.kept), []
        self._remembering = True
        try:
            yield
        finally:
            self.kept, self._known, self._remembering = earlier, [], False

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        seeds: Sequence[int],
        guides: Sequence[Guide | None] | None = None,
        adapters: Sequence[str] | None = None,
        ends: Callable[[Sequence[int]], bool] | None = None,
        cancel: Event | None = None,
        beside: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> list[Completion]:
        """One completion per prompt, in their order. Log-probs are at the temperature, before penalties and
        any truncation.

        guides: what may come, for each. adapters: names of adapters that the peft model has, for each; ""
        is the model without any. ends: whether these ids end a reply. cancel: once it is set, replies end as
        they are. beside: for models in step, by name, what they read instead of these prompts.
        Raises UsageError for an empty prompt and ModelError for one that is too long, before any work.
        """
        self.check(prompts, seeds, sampling.max_new, beside)
        requests = self.requests(prompts, sampling, seeds, guides, adapters, beside, ends)
        found: dict[int, Completion] = {}
        with self.ready() as lean:
            for some in tables([request.longest + sampling.max_new for request in requests], self.rows):
                rows, decoding = self._decoding([requests[number] for number in some])
                use(lean, rows)
                while decoding.running:
                    if cancel is not None and cancel.is_set():
                        decoding.cancel()
                    else:
                        decoding.step()
                self._keep(rows)
                found.update(decoding.completions)
        return [found[number] for number in range(len(prompts))]

    def stream(
        self,
        prompt: Sequence[int],
        *,
        sampling: Sampling,
        seed: int,
        guide: Guide | None = None,
        ends: Callable[[Sequence[int]], bool] | None = None,
        beside: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> Generator[int, None, Completion]:
        """The ids of one completion as they are drawn; the generator's return value is the completion.
        Closing the generator ends the reply."""
        self.check([prompt], [seed], sampling.max_new, beside)
        (request,) = self.requests([prompt], sampling, [seed], [guide], None, beside, ends)
        return self._stream(request)

    def _stream(self, request: Request) -> Generator[int, None, Completion]:
        with self.ready():
            rows, decoding = self._decoding([request])
        while decoding.running:
            with self.ready() as lean:  # not around the loop: between two tokens the model is the caller's
                use(lean, rows)
                told = decoding.step()
            for _, ids in told:
                yield from ids
        self._keep(rows)
        return decoding.completions[0]

    def requests(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        guides: Sequence[Guide | None] | None,
        adapters: Sequence[str] | None,
        beside: Mapping[str, Sequence[Sequence[int]]] | None,
        ends: Callable[[Sequence[int]], bool] | None,
    ) -> list[Request]:
        """What decoding is asked for; the arguments are those of `generate`."""
        others = [(beside or {}).get(name, prompts) for name in (self.beside.members if self.beside else ())]
        if adapters is not None:
            there = set(getattr(self.model, "peft_config", {}))
            if missing := sorted(set(adapters) - there - {""}):
                raise UsageError(
                    f"the model has no adapter {', '.join(map(repr, missing))}; it has "
                    f"{', '.join(map(repr, sorted(there))) or 'none'}"
                )
        return [
            Request(
                number,
                tuple(map(int, prompt)),
                seeds[number],
                sampling,
                ends,
                guides[number] if guides else None,
                (adapters[number] or BASE) if adapters else "",
                tuple(tuple(map(int, ones[number])) for ones in others),
            )
            for number, prompt in enumerate(prompts)
        ]

    def _decoding(self, requests: Sequence[Request]) -> tuple[Rows | Lockstep, Decoding]:
        capacity = max(request.longest + request.sampling.max_new for request in requests)
        count = min(len(requests), self.rows, max(1, SLOTS // capacity))
        known = self._remembered()
        rows = self._held(requests[0], count, capacity) or self.new(count, capacity)
        return rows, Decoding(rows, requests, known=known, **self.how())

    def how(self) -> dict[str, Any]:
        """What decoding is told of this engine."""
        read = read_in_step if self.beside else read_prompts
        return {"stop": self.stop, "drafter": self.drafter, "read": read}

    def _held(self, request: Request, count: int, capacity: int) -> Rows | Lockstep | None:
        """Rows of an earlier call that this one can go on in, without a copy."""
        tables: Any = self._known  # those of several models look like the lead's
        found = Known(tables).find(request.prompt, request.adapter)
        if found is None or found[1].count < count or found[1].capacity < capacity:
            return None
        self._known.remove(found[1])
        return found[1]

    def new(self, count: int, capacity: int) -> Rows | Lockstep:
        """Empty rows."""
        room = 2 * capacity if self.kept else capacity  # for what will follow; what is not used costs nothing
        own = self._rows(count, room, self.beside.heads if self.beside else None)
        if self.beside is None:
            return own
        others = {name: engine._rows(count, room) for name, engine in self.beside.members.items()}
        return Lockstep(own, others, self.beside)

    def _rows(self, count: int, room: int, heads: Mapping[str, Head] | None = None) -> Rows:
        # Under autocast keys come in fp32 and are read in bf16: kept in bf16, they are cast only once.
        dtype = torch.bfloat16 if self.autocast else None
        return Rows(self.base, count, room, whole=self.model, dtype=dtype, heads=heads)

    def _remembered(self) -> list[Rows | Lockstep]:
        """Rows of earlier calls, if the weights are still those that read them."""
        weights = tuple(state for engine in self.engines for state in _weights(engine.model))
        if weights != self._weights:
            self._known, self._weights = [], weights
        return self._known

    def _keep(self, rows: Rows | Lockstep) -> None:
        """Remember these rows, and forget the oldest ones that are too many."""
        self._known.append(rows)
        while sum(len(tokens) for one in self._known for tokens in one.tokens) > self.kept:
            self._known.pop(0)

    def check(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        max_new: int,
        beside: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> None:
        """Raise what `generate` raises for what it cannot go on from."""
        if len(prompts) != len(seeds):
            raise UsageError(f"{len(prompts)} prompts came with {len(seeds)} seeds: give one seed for each.")
        members = self.beside.members if self.beside else {}
        for name, ones in (beside or {}).items():
            if name not in members or len(ones) != len(prompts):
                raise UsageError(
                    f"{len(ones)} prompts are for {name!r} and {len(prompts)} for the model that leads; in "
                    f"step with it there is {', '.join(members) or 'none'}: give each as many"
                )
            members[name].check(ones, seeds, max_new)
        embeddings: Any = self.base.get_input_embeddings()
        vocabulary = embeddings.weight.shape[0]
        for index, prompt in enumerate(prompts):
            if not len(prompt):
                raise UsageError(f"prompt {index} is empty: there is nothing to continue.")
            words = prompt if max(prompt) < album.FIRST else [id for id in prompt if id < album.FIRST]
            if len(words) < len(prompt) and fronts.of(self.model) is None:
                raise ModelError(f"prompt {index} has an image, and this model reads text alone.")
            if not 0 <= min(words, default=0) <= max(words, default=0) < vocabulary:
                raise ModelError(f"prompt {index} holds ids that are not below the model's {vocabulary}.")
            if self.context is not None and len(prompt) + max_new > self.context:
                raise ModelError(
                    f"prompt {index} has {len(prompt)} tokens and {max_new} may follow, but the model's "
                    f"context ends at {self.context}: shorten the prompt or lower max_new."
                )

    @contextmanager
    def ready(self) -> Iterator[list[Lean | None]]:
        """All models as `_apart` has one. Gives what that gives, of this one first."""
        with ExitStack() as stack:
            yield [stack.enter_context(engine._apart()) for engine in self.engines]

    @contextmanager
    def _apart(self) -> Iterator[Lean | None]:
        """The model in evaluation, its adapter on or off, without gradients; afterwards all as before. Gives
        the lean forward pass where there is one and nobody looks into the model's layers."""
        lean = None if self._lean is None or self._lean.watched() else self._lean
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        whole: Any = self.model
        try:
            with ExitStack() as stack:
                stack.enter_context(evaluating(whole))
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
                if lean is not None:
                    lean.refresh()
                else:
                    stack.enter_context(self._packed.used())
                stack.enter_context(torch.inference_mode())
                yield lean
        finally:
            if not self.adapters:  # peft lets every adapter weight learn when it switches them on again
                for parameter in whole.parameters():
                    parameter.requires_grad_(False)
                for parameter in learning:
                    parameter.requires_grad_(True)


def use(lean: Sequence[Lean | None], rows: Rows | Lockstep) -> None:
    """Let the rows of each model be read by its lean forward pass, where it has one."""
    tables = [rows] if isinstance(rows, Rows) else [rows.lead, *rows.beside.values()]
    for one, table in zip(lean, tables, strict=True):
        table.lean = one


def refusal(model: nn.Module) -> str | None:
    """Why `model` cannot decode prompts of several lengths together, as a sentence, or None if it can."""
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        return "Soft prompts take positions of their own: a model with them cannot be sampled from yet."
    base: Any = bare(model)
    config = _config(base)
    if base.config.is_encoder_decoder:
        return f"{type(base).__name__} is an encoder-decoder: it does not continue its prompts."
    strange = sorted(set(getattr(config, "layer_types", None) or ()) - _LAYERS)
    if (attention := base.config._attn_implementation) not in _MASKED:
        return (
            f"{type(base).__name__} computes attention by {attention}, which takes no mask for each row: "
            f"load it with one of {', '.join(sorted(_MASKED))}."
        )
    if getattr(config, "window_size", None):
        return f"{type(base).__name__} counts its windows in columns: its rows cannot be padded."
    if strange or getattr(base, "_is_stateful", False):
        return f"{type(base).__name__} has layers that read padding ({', '.join(strange) or 'recurrent'})."
    if missing := {"position_ids", "logits_to_keep"} - set(inspect.signature(base.forward).parameters):
        return f"{type(base).__name__} takes no {', no '.join(sorted(missing))}: its rows cannot be padded."
    return None


def tables(sizes: Sequence[int], rows: int) -> list[list[int]]:
    """Numbers of prompts that share rows of one length, in turn, the longest first: none takes less than half
    of its row, unless all find room at once.

    sizes: tokens of each with its reply.

    >>> tables([10, 300, 20, 290], 2)
    [[1, 3], [2, 0]]
    """
    order = sorted(range(len(sizes)), key=lambda number: -sizes[number])
    found: list[list[int]] = []
    for number in order:
        some = found[-1] if found else []
        at_once = bool(some) and len(some) < min(rows, SLOTS // sizes[some[0]])
        if some and (at_once or 2 * sizes[number] >= sizes[some[0]]):
            some.append(number)
        else:
            found.append([number])
    return found


def _weights(model: nn.Module) -> tuple[object, ...]:
    """What changes when a weight does, or is moved or replaced, and which adapters are active."""
    return (*map(version, model.parameters()), str(getattr(model, "active_adapters", None)))


def _config(base: PreTrainedModel) -> PretrainedConfig:
    return base.config.get_text_config(decoder=True)
