"""Names of places in a model's attention: what stands there is recorded while the model runs, or exchanged.

A place is one kind of number in one layer that attends: the `output` of its heads, which is what the output
projection reads, or their `query`, `key` or `value`, as the projections give them, before norms and rotation.
Each is (B, T, units, size). Units are heads; of keys and values, with grouped-query attention, the groups of
heads that share them, so that whatever is changed there is changed for all heads of a group.

Hooks do both, and none is left behind, after an error neither. The forward pass of `sample/lean.py` goes
round modules; it looks for hooks, and is not used while there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from turnsmith.errors import ModelError

Kind = Literal["output", "query", "key", "value"]
OUTPUT = "o_proj"  # what families with separate projections call that of attention's output
INPUTS: dict[Kind, str] = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
Change = Callable[[Tensor], Tensor]  # (B, T, units, size) to the same shape; what it is given stays as it is


class Place(NamedTuple):
    """A kind of number, and its layer, among those that attend, from 0."""

    kind: Kind
    layer: int


class Head(NamedTuple):
    """A query head: its layer, among those that attend, and its number within; both from 0."""

    layer: int
    head: int


@dataclass(frozen=True, slots=True, eq=False)
class Sites:
    """The attention of a model: its layers, from the lowest up, and in each of them how many `heads` there
    are, how many `groups` of them share keys and values, and the `size` of one."""

    layers: tuple[nn.Module, ...]
    heads: int
    groups: int
    size: int

    def every(self) -> list[Head]:
        """All heads, from the lowest layer up."""
        return [Head(layer, head) for layer in range(len(self.layers)) for head in range(self.heads)]

    def group(self, head: int) -> int:
        """Which group of keys and values a head of a layer reads."""
        return head * self.groups // self.heads


def outputs(model: nn.Module, who: str) -> dict[str, int]:
    """How many heads each projection of attention's output reads, by the projection's name, from the lowest
    layer up. Raises ModelError, in the name of `who`, where the family has none, or not of a known number."""
    found: dict[str, int] = {}
    for name, layer in model.named_modules():
        if name.rpartition(".")[2] != OUTPUT:
            continue
        attention = model.get_submodule(name.rpartition(".")[0])
        heads = getattr(getattr(attention, "config", None), "num_attention_heads", 0)
        width = getattr(layer, "in_features", None)
        if not isinstance(width, int) or not heads or width % heads:
            raise ModelError(
                f"{who}: {name} is no linear layer from {heads or 'a known number of'} attention heads"
            )
        found[name] = heads
    if not found:
        raise ModelError(
            f"{who}: no layer of this model is called {OUTPUT}, the projection of what its attention heads "
            "give: it cannot be done with this family"
        )
    return found


def sites(model: nn.Module, who: str) -> Sites:
    """The places of a model like Llama, bare or with adapters. Raises ModelError, in the name of `who`, where
    its layers are not alike, or its queries, keys and values do not come from projections of their own."""
    found = outputs(model, who)
    layers = tuple(model.get_submodule(name.rpartition(".")[0]) for name in found)
    shapes = {_shape(layer, heads) for layer, heads in zip(layers, found.values(), strict=True)}
    if len(shapes) > 1 or None in shapes:
        raise ModelError(
            f"{who}: not every attention layer of this model has {', '.join(INPUTS.values())} for as many "
            "heads of one size: it cannot be done with this family"
        )
    (shape,) = shapes
    assert shape is not None
    return Sites(layers, *shape)


def _shape(attention: nn.Module, heads: int) -> tuple[int, int, int] | None:
    """(heads, groups, size of one) of an attention layer; None where they cannot be told."""
    width = {
        kind: getattr(getattr(attention, name, None), "out_features", 0) for kind, name in INPUTS.items()
    }
    read = attention.get_submodule(OUTPUT).in_features
    size = int(read) // heads  # pyright: ignore[reportArgumentType]
    groups = width["key"] // size
    plain = width["query"] == read and width["key"] == width["value"] == groups * size
    return (heads, groups, size) if plain and groups and not heads % groups else None


@contextmanager
def record(places: Sites, wanted: Sequence[Place]) -> Iterator[dict[Place, Tensor]]:
    """While this is open, what stood at the places in the last run, (B, T, units, size) each, by place."""
    found: dict[Place, Tensor] = {}

    def keep(place: Place) -> Change:
        def kept(states: Tensor) -> Tensor:
            found[place] = states
            return states

        return kept

    with edit(places, {place: keep(place) for place in wanted}):
        yield found


@contextmanager
def edit(places: Sites, changes: Mapping[Place, Change]) -> Iterator[None]:
    """While this is open, what the model goes on with at each place is what its change makes of it.

    One that is opened within another sees what that has made.
    """
    with ExitStack() as stack:
        for place, change in changes.items():
            stack.callback(_hook(places, place, change).remove)
        yield


def _hook(places: Sites, place: Place, change: Change) -> Any:
    attention = places.layers[place.layer]

    def made(states: Any) -> Tensor:
        apart: Tensor = states.unflatten(-1, (-1, places.size))
        after = change(apart)
        return states if after is apart else after.flatten(-2)

    if place.kind == "output":
        layer = attention.get_submodule(OUTPUT)
        return layer.register_forward_pre_hook(lambda _, given: (made(given[0]), *given[1:]))
    layer = attention.get_submodule(INPUTS[place.kind])
    return layer.register_forward_hook(lambda module, given, states: made(states))


def taken(states: Tensor, at: Tensor) -> Tensor:
    """(B, units, size): what stands at position `at` (B,) of each row of states (B, T, units, size)."""
    return states[torch.arange(len(at), device=states.device), at]


def put(values: Tensor, units: Sequence[int], at: Tensor) -> Change:
    """The change that puts values (B, units, size), or one row of them for all, in place of these units at
    position `at` (B,) of each row; of the values, only those units are looked at."""

    def change(states: Tensor) -> Tensor:
        after = states.clone()
        rows = torch.arange(len(at), device=states.device)[:, None]
        chosen = torch.tensor(list(units), dtype=torch.long, device=states.device)
        after[rows, at[:, None], chosen] = values[:, chosen].to(states.dtype)
        return after

    return change


def put_everywhere(values: Tensor, units: Sequence[int]) -> Change:
    """The change that puts values (B, T, units, size) in place of these units at all positions."""

    def change(states: Tensor) -> Tensor:
        after = states.clone()
        chosen = list(units)
        after[:, :, chosen] = values[:, :, chosen].to(states.dtype)
        return after

    return change


def chained(*changes: Change) -> Change:
    """One change after another."""

    def change(states: Tensor) -> Tensor:
        for one in changes:
            states = one(states)
        return states

    return change
