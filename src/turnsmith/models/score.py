"""A model and a batch to scores: the head runs at trained tokens only, in slabs of bounded size."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from turnsmith.errors import ModelError
from turnsmith.models import layers
from turnsmith.models.bare import bare
from turnsmith.models.head import logits, logprobs, rows, weight_of, wide
from turnsmith.models.heads import Heads, sorted_out
from turnsmith.models.layers import Layers
from turnsmith.models.modes import evaluating
from turnsmith.models.needs import AGAINST, HEADS, LAYERS, of_kind
from turnsmith.models.reduce import LOGPROB, Other, reduce
from turnsmith.types import Batch, Loss, Scores, Size

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Of the largest logit: a product summed in another order in fp32; 8 bits in bf16.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2}


class Scoring(nn.Module):
    """The module that is trained: its forward is `score`. model: a causal language model, an encoder, which
    predicts no words and may have heads on read-outs, or a peft model of one. heads: further projections, and
    targets: copies that follow some, see `Heads`; seed: of their first weights. proved: False where the model
    has no values to be compared.

    Raises ModelError where head and body, called apart, give other logits than the model as a whole.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        autocast: bool = False,
        heads: Mapping[str, Size] | None = None,
        targets: Mapping[str, float] | None = None,
        seed: int = 0,
        proved: bool = True,
    ) -> None:
        super().__init__()
        self.model = model
        self.autocast = autocast
        self.lower: Callable[[Batch], AbstractContextManager[None]] | None = None
        hidden = self.projection.shape[1] if self.speaks else self.base.config.hidden_size
        made = Heads(heads or {}, hidden=hidden, vocabulary=self.vocabulary, targets=targets, seed=seed)
        self.heads = made.to(self.device)
        if self.speaks and proved:
            self._prove()

    @property
    def base(self) -> PreTrainedModel:
        """The transformers model itself, adapters included where they replaced its layers."""
        found: Any = bare(self.model)
        return found

    @property
    def head(self) -> nn.Module:
        """The output projection (H -> V)."""
        found = self.base.get_output_embeddings()
        if found is None:
            raise ModelError(
                f"{type(self.base).__name__} is an encoder: it reads and judges, and predicts no words, so "
                "that it can neither answer nor say how likely a text is. Take a causal language model, or "
                "objectives and tasks of models that judge"
            )
        return found

    @property
    def speaks(self) -> bool:
        """Whether the model predicts words; an encoder does not."""
        return self.base.get_output_embeddings() is not None

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""
        return len(self.projection if self.speaks else weight_of(self.base.get_input_embeddings()))

    @property
    def projection(self) -> Tensor:
        """(V, H): the weight of the head."""
        return weight_of(self.head)

    @property
    def device(self) -> torch.device:
        """Where the model is; batches are brought there."""
        return (self.projection if self.speaks else weight_of(self.base.get_input_embeddings())).device

    @property
    def body(self) -> nn.Module:
        """What gives the states: an encoder is that itself."""
        return getattr(self.base, self.base.base_model_prefix, self.base)

    def hidden(self, batch: Batch, embeds: Tensor | None = None) -> Tensor:
        """(B * T, H): the last hidden states, computed in the context that `lower` gives for the batch.
        embeds: (B, T, H), read in place of the embeddings of the batch's inputs."""
        return self._read_through(batch, embeds).last_hidden_state.flatten(0, 1)

    def _read_through(self, batch: Batch, embeds: Tensor | None = None, **shown: bool) -> Any:
        """What the body gives. shown: what else of its layers it is to give, in the words of transformers."""
        layout = {"forest": batch.forest} if batch.forest is not None else {"attention_mask": batch.mask}
        read = {"input_ids": batch.inputs} if embeds is None else {"inputs_embeds": embeds}
        with nullcontext() if self.lower is None else self.lower(batch):
            return self.body(**read, position_ids=batch.positions, use_cache=False, **layout, **shown)

    def layers(self, batch: Batch, kinds: Sequence[str], embeds: Tensor | None = None) -> Layers:
        """The states of all layers, and their attention where `kinds` has it. Raises ModelError where the
        model does not show its attention."""
        attention = "attention" in kinds
        out = self._read_through(batch, embeds, output_hidden_states=True, output_attentions=attention)
        shown: tuple[Tensor | None, ...] = tuple(out.attentions) if attention and out.attentions else ()
        found = tuple(one for one in shown if one is not None)
        if attention and (not found or len(found) < len(shown)):
            raise ModelError(
                f"{type(self.base).__name__} does not show its attention as it is computed here: "
                "set_attn_implementation('eager') on it, and padded rows, let it"
            )
        return Layers(tuple(out.hidden_states), found)

    def forward(
        self,
        batch: Batch,
        *,
        temperature: float = 1.0,
        reads: Sequence[str] = (),
        needs: Sequence[str] = (),
        others: Mapping[str, Scoring] | None = None,
        expected: Tensor | None = None,
        embeds: Tensor | None = None,
        ask: Callable[[PreTrainedModel], Loss] | None = None,
        words: bool = True,
    ) -> Scores | Loss:
        """Scores of the trained tokens. temperature divides the logits; reads: of each path, the `first` or
        `last` state or the weighted `mean` of those of its trained tokens; needs: reductions over the
        vocabulary, as `sorted_out` takes them, and what is compared with other models beside it (`LAYERS`,
        `HEADS` of `models/needs.py`); others: the models that some of these speak of, which get no gradients.

        expected: (N,), what the loss will hand back to the log-probs, up to a factor, where that is known.
        embeds: (B, T, H), what is read in place of the embeddings of the batch's inputs.
        ask: what is asked of the model itself in place of scores, where it is no language model.
        words: whether log-probs are asked for; without, they are nan, and an encoder can be asked.
        """
        if ask is not None:
            with self.arithmetic():
                return ask(self.base)
        batch = to(batch, self.device)
        wanted = sorted_out(needs, self.heads.sizes, others or ())
        there = others or {}
        beside = {name: there[name].beside(batch, temperature) for name in of_kind(needs, *AGAINST)}
        if expected is not None:
            expected = expected.new_zeros(len(batch.targets)).index_add(0, batch.entry, expected)
        apart: dict[str, Tensor] = {}
        with self.arithmetic():
            if of_kind(needs, *LAYERS):
                hidden, apart = self._compared(batch, embeds, needs, there)
            else:
                hidden = self.hidden(batch, embeds)
            states = hidden[batch.source]
            reduced: dict[str, Tensor] = {}
            if names := wanted.get("", ()):
                distinct, reduced = self._reduced(states, batch.targets, temperature, names, beside)
            elif not words:
                distinct = batch.weights.new_full((len(batch.targets),), torch.nan)
            else:
                distinct = self.logprobs(states, batch.targets, temperature=temperature, expected=expected)
            held = rows(self.vocabulary)
            said, more = self.heads.read(states, batch.targets, wanted, rows=held)
        read = {name: _read(name, hidden, batch) for name in dict.fromkeys((*reads, *self.heads.reads))}
        at_tokens = {name: values[batch.entry] for name, values in said.items()}
        return scores(
            batch,
            distinct[batch.entry],
            read={name: read[name] for name in reads},
            heads=at_tokens | self.heads.on_tokens(hidden, batch.place) | self.heads.on_paths(read),
            reduced={name: values[batch.entry] for name, values in (reduced | more).items()},
            temperature=temperature,
            apart=apart,
            others={name: there[name].judged(batch) for name in of_kind(needs, HEADS)},
        )

    def _compared(
        self, batch: Batch, embeds: Tensor | None, needs: Sequence[str], others: Mapping[str, Scoring]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(B * T, H), the last hidden states, and (P,) of all needs of `LAYERS`: how far the layers are from
        those of the other models, which are read first."""
        wanted: dict[str, list[str]] = {
            name: [kind for kind in LAYERS if f"{kind}:{name}" in needs] for name in of_kind(needs, *LAYERS)
        }
        theirs: dict[str, Layers] = {}
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for name, kinds in wanted.items():
                with others[name].arithmetic():
                    theirs[name] = others[name].layers(batch, kinds)
        mine = self.layers(batch, [kind for kinds in wanted.values() for kind in kinds], embeds)
        found = {
            f"{kind}:{name}": values
            for name, kinds in wanted.items()
            for kind, values in layers.apart(mine, theirs[name], batch, kinds).items()
        }
        return mine.states[-1].flatten(0, 1), found

    @torch.no_grad()
    def judged(self, batch: Batch) -> dict[str, Tensor]:
        """What the heads on read-outs say of the batch's paths, in this model's own arithmetic."""
        batch = to(batch, self.device)
        with torch.autocast(self.device.type, enabled=False), self.arithmetic():
            hidden = self.hidden(batch)
        return self.heads.on_paths({name: _read(name, hidden, batch) for name in self.heads.reads})

    def _reduced(
        self,
        states: Tensor,
        targets: Tensor,
        temperature: float,
        names: Sequence[str],
        others: Mapping[str, Other],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(D,) log-probs, and the reductions with these names, of the same logits."""
        head, cap = self.head, _softcap(self.base)

        def project(some: Tensor) -> Tensor:
            return logits(some, head, cap) / temperature

        held = rows(len(self.projection) * (1 + len(others)))  # all of them together fill the slab
        found = reduce(states, targets, project, (LOGPROB, *names), rows=held, others=others)
        return found.pop(LOGPROB), found

    @torch.no_grad()
    def beside(self, batch: Batch, temperature: float) -> Other:
        """This model as one that another is compared with, in its own arithmetic whatever the other's is."""
        head, cap = self.head, _softcap(self.base)

        def project(some: Tensor) -> Tensor:
            with torch.autocast(self.device.type, enabled=False), self.arithmetic():
                return logits(some, head, cap) / temperature

        with torch.autocast(self.device.type, enabled=False):
            return Other(self.states(batch), project)

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

    def logprobs(
        self,
        hidden: Tensor,
        targets: Tensor,
        *,
        temperature: float = 1.0,
        expected: Tensor | None = None,
    ) -> Tensor:
        """(D,) fp32 log-probabilities of `targets` (D,) from the states `hidden` (D, H) that predict them."""
        cap = _softcap(self.base)
        return logprobs(hidden, targets, self.head, cap=cap, temperature=temperature, expected=expected)

    @torch.no_grad()
    def _prove(self) -> None:
        vocabulary = self.projection.shape[0]
        ids = torch.arange(8, device=self.device)[None] % vocabulary
        with evaluating(self.model), self.arithmetic():
            whole = self.model(input_ids=ids, use_cache=False).logits[0].float()
            states = self.body(input_ids=ids, use_cache=False).last_hidden_state[0]
            apart = logits(states, self.head, _softcap(self.base))
        worst = float((whole - apart).abs().max())
        coarse = self.autocast or self.projection.dtype in (torch.bfloat16, torch.float16)
        tolerance = TOLERANCE[torch.bfloat16 if coarse else torch.float32]
        if not worst <= tolerance * float(whole.abs().max()):
            raise ModelError(
                f"{type(self.base).__name__} computes its logits in a way that is not known here (they "
                f"differ by {worst:.3g} from head times hidden states): it cannot be tuned yet"
            )


def scores(
    batch: Batch,
    logprobs: Tensor,
    *,
    read: Mapping[str, Tensor] | None = None,
    heads: Mapping[str, Tensor] | None = None,
    reduced: Mapping[str, Tensor] | None = None,
    temperature: float = 1.0,
    apart: Mapping[str, Tensor] | None = None,
    others: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> Scores:
    """What an objective sees of a batch whose trained tokens have these log-probs (N,)."""
    return Scores(
        logprobs=logprobs,
        weights=batch.weights,
        turns=batch.turns,
        path=batch.path,
        paths=batch.paths,
        examples=len(batch.ids),
        reference=batch.extras.get("reference"),
        values=batch.values,
        extras=batch.extras,
        read=read or {},
        heads=heads or {},
        reduced=reduced or {},
        temperature=temperature,
        apart=apart or {},
        others=others or {},
    )


def to(batch: Batch, device: torch.device) -> Batch:
    """The batch on another device."""
    if batch.inputs.device == device:
        return batch

    def move(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device)
        if isinstance(value, Batch):
            return to(value, device)
        return {key: move(one) for key, one in value.items()} if isinstance(value, Mapping) else value

    return Batch(**{field.name: move(getattr(batch, field.name)) for field in fields(batch)})


def along_paths(batch: Batch) -> tuple[Tensor, Tensor]:
    """Every token of every path, trained or not: its flat index in (B * T), and the number of its path.

    A token that k paths share occurs k times; what is padded does not occur.
    """
    if batch.forest is None:
        assert batch.mask is not None
        path, place = batch.mask.nonzero(as_tuple=True)
        return path * batch.mask.shape[1] + place, path
    bounds = batch.forest.bounds
    places: list[Tensor] = []
    for last in batch.reads.tolist():
        leaf = bisect_right(bounds, last) - 1
        above = [torch.arange(bounds[one], bounds[one + 1]) for one in batch.forest.ancestors(leaf)]
        places.append(torch.cat([*above, torch.arange(bounds[leaf], last + 1)]))
    sizes = torch.tensor([len(one) for one in places])
    path = torch.repeat_interleave(torch.arange(len(places)), sizes)
    return torch.cat(places).to(batch.inputs.device), path.to(batch.inputs.device)


def _read(name: str, hidden: Tensor, batch: Batch) -> Tensor:
    """(P, H)."""
    if name == "last":
        return hidden[batch.reads]
    if name == "first":
        flat, path = along_paths(batch)
        return hidden[flat[path.diff(prepend=path.new_tensor([-1])) != 0]]
    if name != "mean":
        raise ValueError(f"no read-out is called {name!r}; there is 'first', 'last' and 'mean'")
    states = wide(hidden[batch.place])
    weights = batch.weights.to(states.dtype)
    none = states.new_zeros(len(batch.paths), states.shape[1])
    sums = none.index_add(0, batch.path, states * weights[:, None])
    return sums / none[:, 0].index_add(0, batch.path, weights).clamp_min(1e-9)[:, None]


def _softcap(base: PreTrainedModel) -> float | None:
    return getattr(base.config, "final_logit_softcapping", None)
