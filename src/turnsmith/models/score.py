"""A model and a batch to scores: the head runs at trained tokens only, in slabs of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from turnsmith.errors import ModelError
from turnsmith.types import Batch, Scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SLAB = 48 * 2**20  # bytes of fp32 logits that are held at once
# Of the largest logit: a product summed in another order in fp32; 8 bits in bf16.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2}


class Scoring(nn.Module):
    """The module that is trained: its forward is `score`. model: a causal language model, or a peft model of
    one.

    Raises ModelError where head and body, called apart, give other logits than the model as a whole.
    """

    def __init__(self, model: nn.Module, *, autocast: bool = False) -> None:
        super().__init__()
        self.model = model
        self.autocast = autocast
        self._prove()

    @property
    def base(self) -> PreTrainedModel:
        """The transformers model itself, adapters included where they replaced its layers."""
        whole: Any = self.model
        return whole.get_base_model() if hasattr(whole, "get_base_model") else whole

    @property
    def head(self) -> nn.Module:
        """The output projection (H -> V)."""
        found = self.base.get_output_embeddings()
        assert found is not None
        return found

    @property
    def projection(self) -> Tensor:
        """(V, H): the weight of the head."""
        found = self.head.weight
        assert isinstance(found, Tensor)
        return found

    @property
    def device(self) -> torch.device:
        """Where the model is; batches are brought there."""
        return self.projection.device

    def hidden(self, batch: Batch) -> Tensor:
        """(B * T, H): the last hidden states."""
        base = self.base
        body = getattr(base, base.base_model_prefix)
        layout = {"forest": batch.forest} if batch.forest is not None else {"attention_mask": batch.mask}
        out = body(input_ids=batch.inputs, position_ids=batch.positions, use_cache=False, **layout)
        return out.last_hidden_state.flatten(0, 1)

    def forward(self, batch: Batch, *, temperature: float = 1.0, reads: Sequence[str] = ()) -> Scores:
        """Scores of the trained tokens. temperature divides the logits; reads: `last` state of each path."""
        batch = to(batch, self.device)
        with self.arithmetic():
            hidden = self.hidden(batch)
            distinct = self.logprobs(hidden[batch.source], batch.targets, temperature=temperature)
        return Scores(
            logprobs=distinct[batch.entry],
            weights=batch.weights,
            turns=batch.turns,
            path=batch.path,
            paths=batch.paths,
            examples=len(batch.ids),
            reference=batch.extras.get("reference"),
            values=batch.values,
            extras=batch.extras,
            read={name: _read(name, hidden, batch) for name in reads},
        )

    def states(self, batch: Batch) -> Tensor:
        """(D, H): the states that predict the distinct trained tokens."""
        batch = to(batch, self.device)
        with self.arithmetic():
            return self.hidden(batch)[batch.source]

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """bf16 under autocast where that was asked for; adapters then take bf16 inputs as they are."""
        if not self.autocast:
            yield
            return
        from peft import PeftModel
        from peft.helpers import disable_input_dtype_casting

        device = self.device.type
        peft = disable_input_dtype_casting(self.model) if isinstance(self.model, PeftModel) else nullcontext()
        with torch.autocast(device, torch.bfloat16), peft:
            yield

    def logprobs(self, hidden: Tensor, targets: Tensor, *, temperature: float = 1.0) -> Tensor:
        """(D,) fp32 log-probabilities of `targets` (D,) from the states `hidden` (D, H) that predict them."""
        head, cap = self.head, _softcap(self.base)
        rows = max(1, SLAB // (4 * self.projection.shape[0]))
        frozen = isinstance(head, nn.Linear) and not any(p.requires_grad for p in head.parameters())
        if frozen and cap is None:
            return _FrozenHead.apply(hidden, head.weight, head.bias, targets, temperature, rows)
        chunks = zip(hidden.split(rows), targets.split(rows), strict=True)
        return torch.cat(
            [checkpoint(_chosen, h, t, head, cap, temperature, use_reentrant=False) for h, t in chunks]
        )

    @torch.no_grad()
    def _prove(self) -> None:
        vocabulary = self.projection.shape[0]
        ids = torch.arange(8, device=self.device)[None] % vocabulary
        training = self.model.training
        self.model.eval()
        body = getattr(self.base, self.base.base_model_prefix)
        with self.arithmetic():
            whole = self.model(input_ids=ids, use_cache=False).logits[0].float()
            states = body(input_ids=ids, use_cache=False).last_hidden_state[0]
            apart = _logits(states, self.head, _softcap(self.base))
        self.model.train(training)
        worst = float((whole - apart).abs().max())
        coarse = self.autocast or self.projection.dtype in (torch.bfloat16, torch.float16)
        tolerance = TOLERANCE[torch.bfloat16 if coarse else torch.float32]
        if not worst <= tolerance * float(whole.abs().max()):
            raise ModelError(
                f"{type(self.base).__name__} computes its logits in a way that is not known here (they "
                f"differ by {worst:.3g} from head times hidden states): it cannot be tuned yet"
            )


def to(batch: Batch, device: torch.device) -> Batch:
    """The batch on another device."""
    if batch.inputs.device == device:
        return batch

    def move(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device)
        return {k: v.to(device) for k, v in value.items()} if isinstance(value, Mapping) else value

    return Batch(**{field.name: move(getattr(batch, field.name)) for field in fields(batch)})


def _read(name: str, hidden: Tensor, batch: Batch) -> Tensor:
    if name == "last":
        return hidden[batch.reads]
    raise ValueError(f"no read-out is called {name!r}; there is 'last'")


def _softcap(base: PreTrainedModel) -> float | None:
    return getattr(base.config, "final_logit_softcapping", None)


def _wide(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _logits(hidden: Tensor, head: nn.Module, cap: float | None) -> Tensor:
    logits = _wide(head(hidden))
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _chosen(
    hidden: Tensor, targets: Tensor, head: nn.Module, cap: float | None, temperature: float
) -> Tensor:
    logits = _logits(hidden, head, cap) / temperature
    return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(1)


class _FrozenHead(torch.autograd.Function):
    """Log-probs under a linear head that does not learn.

    The gradient of log p(target) with respect to the state is (W[target] - p W) / temperature, whatever the
    objective makes of log p. It is computed while the logits are there, so none are kept or computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        rows: int,
    ) -> Tensor:
        needed = hidden.requires_grad or ctx.needs_input_grad[0]
        weight = weight.to(hidden.dtype)
        chosen, slopes = [], []
        for states, wanted in zip(hidden.split(rows), targets.split(rows), strict=True):
            logits = _wide(F.linear(states, weight, bias)) / temperature
            total = logits.logsumexp(1, keepdim=True)
            chosen.append((logits.gather(1, wanted[:, None]) - total)[:, 0])
            if needed:
                p = logits.sub_(total).exp_().to(weight.dtype)
                slopes.append((weight[wanted] - p @ weight) / temperature)
        ctx.save_for_backward(torch.cat(slopes) if slopes else hidden.new_empty(0))
        return torch.cat(chosen) if chosen else _wide(hidden.new_zeros(0))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return (upstream[0][:, None].to(slopes.dtype) * slopes, None, None, None, None, None)


@torch.no_grad()
def divergence(teacher: Scoring, states: Tensor, student: Scoring, others: Tensor) -> Tensor:
    """KL(teacher || student) in nats at each position, exact over the vocabulary: (D,).

    states, others: (D, H) last hidden states of the two models at the same positions.
    """
    rows = max(1, SLAB // (4 * teacher.projection.shape[0]))
    found = []
    for one, other in zip(states.split(rows), others.split(rows), strict=True):
        with teacher.arithmetic():
            p = _logits(one, teacher.head, _softcap(teacher.base)).log_softmax(1)
        with student.arithmetic():
            q = _logits(other, student.head, _softcap(student.base)).log_softmax(1)
        found.append((p.exp() * (p - q)).sum(1))
    return torch.cat(found)
