"""What a circuit does alone: all heads outside it say what they say on the average."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from turnsmith.evaluation.probes.paths import GROUPS, Circuit, GroupName, Pair
from turnsmith.evaluation.probes.prompts import POSITIONS, Answers, Position, Probe, Prompts
from turnsmith.models.sites import Change, Head, Place, chained, edit, put, taken

Means = Mapping[tuple[Position, Place], Tensor]  # (1, heads, size)


def means(pairs: Sequence[Pair]) -> Means:
    """The mean of what each head gives, at each position, over the corrupted prompts."""
    return {
        (position, place): torch.cat(
            [taken(pair.corrupt[place], pair.other.at[position]) for pair in pairs]
        ).mean(0, keepdim=True)
        for position in POSITIONS
        for place in pairs[0].corrupt
    }


@dataclass(frozen=True, slots=True, eq=False)
class Ablation:
    """A model of which heads are taken out by their means at the three positions, and prompts to ask it."""

    probe: Probe
    means: Means
    prompts: Sequence[Prompts]

    @torch.no_grad()
    def right(self, circuit: Circuit) -> Tensor:
        """(B,) over all prompts: 1 where the circuit alone gives the right answer. At a position, the heads
        of all groups that write there are left in."""
        outside = _outside(self.probe, circuit)
        return torch.cat([self._said(prompts, outside).right for prompts in self.prompts])

    @torch.no_grad()
    def right_without(self, heads: Mapping[Position, set[Head]]) -> Tensor:
        """(B,): 1 where the model gives the right answer with these heads taken out at these positions."""
        return torch.cat([self._said(prompts, heads).right for prompts in self.prompts])

    def _said(self, prompts: Prompts, out: Mapping[Position, set[Head]]) -> Answers:
        changes: dict[Place, list[Change]] = {}
        for position, heads in out.items():
            for layer in sorted({head.layer for head in heads}):
                place = Place("output", layer)
                units = sorted(head.head for head in heads if head.layer == layer)
                change = put(self.means[position, place], units, prompts.at[position])
                changes.setdefault(place, []).append(change)
        with edit(self.probe.sites, {place: chained(*ones) for place, ones in changes.items()}):
            return self.probe.answers(prompts)


def written(circuit: Circuit) -> dict[Position, set[Head]]:
    """The heads of a circuit by the position that they write at."""
    found: dict[Position, set[Head]] = {position: set() for position in POSITIONS}
    for group in GROUPS:
        found[group.position] |= set(circuit[group.name])
    return found


def _outside(probe: Probe, circuit: Circuit) -> dict[Position, set[Head]]:
    every = set(probe.sites.every())
    return {position: every - heads for position, heads in written(circuit).items()}


def without(circuit: Circuit, group: GroupName, heads: Sequence[Head]) -> Circuit:
    """The circuit less these heads of a group."""
    return {**circuit, group: tuple(one for one in circuit[group] if one not in heads)}


def share(circuit: Circuit, part: float) -> Circuit:
    """The strongest of each group: this part of them, rounded up."""
    return {name: heads[: math.ceil(part * len(heads))] for name, heads in circuit.items()}


def pruned(ablation: Ablation, circuit: Circuit, *, least: float, partners: float) -> Circuit:
    """The circuit without heads that add less than `least` of its accuracy F(C).

    A head v is judged beside a set K of its own group, the share `partners` of it (rounded up) whose removal
    together with v, one at a time, hurts most: |F(C - K) - F(C - K - v)| / F(C). So a head is kept that
    others would stand in for. All are judged on the circuit as it came. One that answers nothing stays as it
    is. Source: arXiv:2402.14811 app. C; Nix07/finetuning, experiment_1/minimality.py.
    """
    whole = float(ablation.right(circuit).mean())
    if not whole:
        return circuit
    kept: dict[GroupName, tuple[Head, ...]] = {}
    for name, heads in circuit.items():
        count = math.ceil(partners * (len(heads) - 1))
        kept[name] = tuple(
            one for one in heads if contribution(ablation, circuit, name, one, count) >= least * whole
        )
    return kept


def contribution(ablation: Ablation, circuit: Circuit, group: GroupName, head: Head, partners: int) -> float:
    """|F(C - K) - F(C - K - v)| of one head v, with so many partners K of its group."""

    def accuracy(*heads: Head) -> float:
        return float(ablation.right(without(circuit, group, heads)).mean())

    others = [one for one in circuit[group] if one != head]
    worst = sorted(others, key=lambda one: accuracy(head, one))[:partners] if partners else []
    return abs(accuracy(*worst) - accuracy(*worst, head))
