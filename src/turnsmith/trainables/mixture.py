"""LoRAMoE: several low-rank experts behind a soft router beside frozen layers, half of them for knowledge."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from turnsmith.errors import DataError, ModelError, UsageError
from turnsmith.models.head import wide
from turnsmith.models.score import along_paths, to
from turnsmith.registry import trainable
from turnsmith.trainables.install import Draw
from turnsmith.trainables.replace import instances, linear, put, refuse_adapter
from turnsmith.types import Batch

KNOWLEDGE = "knowledge"  # the value of an example that says its type: 1 or 0, or UNKNOWN
UNKNOWN = -1.0
EPSILON = 1e-10  # of the released code, beside the squared mean


class Mixture(nn.Module):
    """W x + alpha / rank * the sum over experts n of g_n(x) B_n A_n dropout(x), g = softmax(R x), per token.

    layer: W, which stays as it is. inner: all A on top of each other, (experts * rank, in). outer: all B
    beside each other, (out, experts * rank), which start at zero; so that however many experts there are,
    they take two products. router: R, (experts, in); the softmax is in fp32.
    gates: (..., experts) of the last forward pass in training, with its graph; else None.
    """

    def __init__(self, layer: nn.Linear, *, experts: int, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.layer = layer
        # A linear layer starts as the paper's A and R do: Kaiming-uniform with a = sqrt(5).
        self.router = nn.Linear(layer.in_features, experts, bias=False)
        self.inner = nn.Linear(layer.in_features, experts * rank, bias=False)
        self.outer = nn.Linear(experts * rank, layer.out_features, bias=False)
        nn.init.zeros_(self.outer.weight)
        self.dropout = nn.Dropout(dropout)
        self.experts, self.scale = experts, alpha / rank
        self.gates: Tensor | None = None
        weight = layer.weight
        for part in (self.router, self.inner, self.outer):
            part.to(weight.device, torch.promote_types(weight.dtype, torch.float32))
        self.train(layer.training)

    def forward(self, states: Tensor) -> Tensor:
        plain = self.layer(states)
        if not torch.is_autocast_enabled(states.device.type):
            states = states.to(self.router.weight.dtype)
        gates = wide(self.router(states)).softmax(-1)
        if self.training and not _backwards():
            self.gates = gates
        parts = self.inner(self.dropout(states)).unflatten(-1, (self.experts, -1))
        mixed = parts * (self.scale * gates).to(parts.dtype)[..., None]
        return plain + self.outer(mixed.flatten(-2)).to(plain.dtype)

    def __getstate__(self) -> dict[str, Any]:
        """Copies come without the gates: these belong to a pass, and what has a graph cannot be copied."""
        return {**self.__dict__, "gates": None}


def _backwards() -> bool:
    """Whether a backward pass is running, which computes a checkpointed block again: what it gives there
    would be held for nothing."""
    return torch._C._current_graph_task_id() != -1


@trainable("loramoe", source="arXiv:2312.09979; Ablustrund/LoRAMoE, peft/tuners/lora.py")
class LoraMoe:
    """Low-rank experts that all answer, weighed by a router for each token; half of them serve knowledge.

    targets: name endings of the layers that get experts. balance: the paper's beta, the weight of the
    localised balancing constraint; 0 leaves it out. degree: its delta, 0 to 1: how far the two halves part.
    The constraint reads `values["knowledge"]` of each example, 1 where it asks for what the model knows, 0
    where for something else, -1 where nobody can tell, which leaves the example out of it. Its samples are
    conversations, and their real tokens alone count (the released code counts padding too). It makes the
    second half of the experts serve knowledge, and the first half the rest: what is weighed 1 + degree is
    driven down. The task `routing` measures that. A model with such experts goes on with them, if experts,
    rank, alpha, dropout and targets are the same.
    """

    def __init__(
        self,
        *,
        experts: int = 8,
        rank: int = 4,
        alpha: float = 32.0,
        dropout: float = 0.05,
        targets: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj"),
        balance: float = 0.1,
        degree: float = 0.1,
    ) -> None:
        if experts < 1 or rank < 1:
            raise UsageError(f"loramoe: experts is {experts} and rank {rank}: both are 1 or more")
        if experts > 1 and experts % 2:
            raise UsageError(f"loramoe: experts is {experts}: an even number has two equal halves")
        if not 0 <= degree <= 1 or balance < 0:
            raise UsageError(
                f"loramoe: degree is {degree} and balance {balance}: 0 <= degree <= 1 and balance >= 0"
            )
        self.shape: dict[str, Any] = {"experts": experts, "rank": rank, "alpha": alpha, "dropout": dropout}
        self.targets = tuple(targets)
        if balance:  # without, nothing is added to the loss, and no pass is needed to know how much
            self.tally = partial(tally, degree=degree)
            self.penalty = partial(penalty, balance=balance)

    def attach(self, model: nn.Module) -> nn.Module:
        """The model with experts in place of its target layers, or as it is where it has them."""
        there = mixtures(model)
        if there:
            self._compare(there)
            return model
        refuse_adapter(model, "loramoe puts experts beside layers of")
        names = [name for name, _ in model.named_modules() if self._is_target(name)]
        if not names:
            raise ModelError(f"loramoe: no layer of this model is called {' or '.join(self.targets)}")
        for name in names:
            put(model, name, Mixture(linear(model, name, "loramoe"), **self.shape))
        return model

    def _is_target(self, name: str) -> bool:
        return any(name == target or name.endswith(f".{target}") for target in self.targets)

    def _compare(self, there: Mapping[str, Mixture]) -> None:
        one = next(iter(there.values()))
        rank = one.inner.out_features // one.experts
        has = {"experts": one.experts, "rank": rank, "alpha": one.scale * rank, "dropout": one.dropout.p}
        for option, value in self.shape.items():
            if has[option] != value:
                raise ModelError(
                    f"the experts to go on with have {option} {has[option]}, asked for is {value}: set "
                    f"{option} to {has[option]}"
                )
        strange = [name for name in there if not self._is_target(name)]
        lacking = [target for target in self.targets if not any(n.endswith(target) for n in there)]
        if strange or lacking:
            raise ModelError(
                f"the experts to go on with are at {', '.join(sorted({n.rpartition('.')[2] for n in there}))}"
                f", asked for is {', '.join(self.targets)}: set targets to what is there"
            )

    def select(self, model: nn.Module, draw: Draw) -> dict[str, bool]:
        """All A, all B, and the routers."""
        return {
            f"{name}.{part}.weight": True for name in mixtures(model) for part in ("router", "inner", "outer")
        }


def tally(model: nn.Module, batch: Batch, *, degree: float) -> Tensor:
    """(L, 3): for each of the L layers with experts the sum of Z, of its squares, and how many entries.

    Z[n, m] is what expert n is given by conversation m, the sum of g_n over its tokens, times 1 + degree
    where the expert's half is the one that the released code calls the conversation's own, else times
    1 - degree. A token that several conversations share counts for each. Takes the gates of the forward pass
    over `batch`, which are then gone.
    """
    gates = _taken(model)  # (slots, L, experts)
    batch = to(batch, gates.device)
    places, path = along_paths(batch)
    given = gates.new_zeros(len(batch.paths), *gates.shape[1:]).index_add(0, path, gates[places])
    kinds = _kinds(batch)  # (P,)
    first = torch.arange(gates.shape[2], device=gates.device) < gates.shape[2] / 2
    own = first == (kinds == 1)[:, None]  # (P, experts)
    factor = torch.where(own, 1 + degree, 1 - degree).to(gates.dtype)
    weighed = (given * factor[:, None])[kinds != UNKNOWN]
    count = weighed.new_full((gates.shape[1],), weighed.shape[0] * weighed.shape[2])
    return torch.stack([weighed.sum((0, 2)), weighed.square().sum((0, 2)), count], 1)


def penalty(model: nn.Module, total: Tensor | None, *, balance: float) -> Tensor:
    """(): balance times the sum over layers of Var(Z) / (Mean(Z)^2 + 1e-10), of the entries of the window.

    The variance is unbiased; a layer with one entry or none adds 0.
    """
    assert total is not None
    return balance * spread(total).sum()


def spread(total: Tensor) -> Tensor:
    """(L,): variance by squared mean of numbers of which `total` (L, 3) has the sum, the sum of the squares,
    and how many they are.

    >>> spread(torch.tensor([[8.0, 64.0, 4.0]]))  # 8, 0, 0, 0
    tensor([4.])
    """
    sums, squares, count = total.unbind(1)
    mean = sums / count.clamp_min(1)
    variance = (squares - sums * mean) / (count - 1).clamp_min(1)
    return variance / (mean.square() + EPSILON)


def mixtures(model: nn.Module) -> dict[str, Mixture]:
    """The layers with experts, by name."""
    return instances(model, Mixture)


def _taken(model: nn.Module) -> Tensor:
    """(slots, L, experts): the gates of all layers, which drop them.

    In double precision where the device has it, since sums of squares are subtracted.
    """
    gates: list[Tensor] = []
    for mixture in mixtures(model).values():
        if mixture.gates is None:
            raise ModelError("loramoe: no forward pass in training has left the gates of the routers")
        gates.append(mixture.gates.flatten(0, -2))
        mixture.gates = None
    stacked = torch.stack(gates, 1)
    return stacked if stacked.device.type == "mps" else stacked.double()


def _kinds(batch: Batch) -> Tensor:
    """(P,): the type of each conversation: 1, 0 or UNKNOWN."""
    if KNOWLEDGE not in batch.values:
        raise DataError(
            f"loramoe: example {batch.ids[0]!r} has no value {KNOWLEDGE!r}, by which experts are kept apart: "
            f"give all of them one with the stage `value`, or set balance: 0"
        )
    values = batch.values[KNOWLEDGE]
    for id, value in zip(batch.ids, values.tolist(), strict=True):
        if value not in (0, 1, UNKNOWN):
            raise DataError(f"loramoe: example {id!r} has {KNOWLEDGE} {value:g}: 1, 0, or -1 for neither")
    return values[torch.tensor([path.example for path in batch.paths], device=values.device)]
