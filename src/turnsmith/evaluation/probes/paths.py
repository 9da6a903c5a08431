"""Path patching: which heads an answer comes from, from the last one to the first, by what one head's output
does to it on one path.

A prompt is run on its own and in a corrupted form, another scene whose question nothing answers. One
sender's output is exchanged for that of the corrupted run while those of all other heads are held at their
own, so that it reaches its receivers by the residual stream and the feed-forward layers alone; then what the
receivers read of it is put into a run in which everything else is free. What the answer loses by that is the
sender's effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from turnsmith import seeds
from turnsmith.data.containers import Scene
from turnsmith.errors import DataError
from turnsmith.evaluation.probes.prompts import Asked, Position, Probe, Prompts, by_batch
from turnsmith.models.sites import Change, Head, Kind, Place, edit, put, record, taken

GroupName = Literal["fetchers", "transmitters", "detectors", "readers"]
Shape = Literal["chain", "star"]
Circuit = Mapping[GroupName, tuple[Head, ...]]


class Group(NamedTuple):
    """Heads of one part in the circuit: where they write, and which input of which group above reads that;
    both None of those that the logits read."""

    name: GroupName
    position: Position
    read_by: GroupName | None
    read_as: Kind | None


# The value fetchers bring the answer to the last token; the position transmitters tell them where it stands,
# which they have from the position detectors at the label that is asked for; these have it from the structure
# readers, where the label stood before.
GROUPS = (
    Group("fetchers", "last", None, None),
    Group("transmitters", "last", "fetchers", "query"),
    Group("detectors", "label", "transmitters", "value"),
    Group("readers", "earlier", "detectors", "value"),
)


def arranged(shape: Shape) -> tuple[Group, ...]:
    """The groups from the logits down: in a `chain`, each read by the one above it, as in the paper's model,
    or in a `star`, all read by the fetchers; a model of two layers has no room for more."""
    if shape == "chain":
        return GROUPS
    return tuple(one if one.read_by is None else one._replace(read_by="fetchers") for one in GROUPS)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A batch of prompts as they are and corrupted, with what all heads give in both, and what is said."""

    clean: Prompts
    outputs: Mapping[Place, Tensor]
    other: Prompts
    corrupt: Mapping[Place, Tensor]
    probability: Tensor  # (B,), of the right answer to the clean prompt


def pairs(probe: Probe, scenes: Mapping[str, Scene]) -> list[Pair]:
    """The scenes, by id, in batches, each beside a corrupted one whose box that was asked for is another.

    Raises DataError where all scenes ask for the same box.
    """
    others = partners(scenes)
    made = []
    for batch in by_batch([Asked(scene, scene.answer, id) for id, scene in scenes.items()]):
        clean = probe.prompts(batch)
        other = probe.prompts([Asked(others[one.id], others[one.id].answer, one.id) for one in batch])
        outputs, said = probe.outputs(clean)
        made.append(Pair(clean, outputs, other, probe.outputs(other)[0], said.probability))
    return made


def partners(scenes: Mapping[str, Scene]) -> dict[str, Scene]:
    """For each scene, by id, another that asks for another box, corrupted: its label is in none of its boxes.
    Which one depends on the scene's id and the others alone."""
    found: dict[str, Scene] = {}
    for id, scene in scenes.items():
        rng = seeds.stream("corrupted", id)
        fit = [one for one in scenes.values() if one.index != scene.index]
        if not fit:
            raise DataError(
                f"example {id!r}: every scene asks for box number {scene.index}: take more scenes"
            )
        labels = sorted({label for one in scenes.values() for label in one.boxes})
        other = rng.choice(fit)
        free = [label for label in labels if label not in other.boxes]
        found[id] = other.corrupted(rng, "".join(free)) if free else other.corrupted(rng)
    return found


@torch.no_grad()
def effects(
    probe: Probe, pairs: Sequence[Pair], position: Position, receivers: Sequence[Head], read_as: Kind | None
) -> dict[Head, float]:
    """By sender: the mean over prompts of (p - p_clean) / p_clean, p being the probability of the right
    answer once the receivers read, at `position`, what they would if the sender had seen the corrupted
    prompt there.

    read_as: which input of the receivers that is; None where the logits themselves receive. Keys and values
    belong to groups of heads: those that share them with a receiver receive as well. A sender that stands
    above all receivers, or in their layer, has an effect of exactly 0.
    Source: arXiv:2402.14811 sec. 4.1; Nix07/finetuning, experiment_1/path_patching.py.
    """
    sums = dict.fromkeys(probe.sites.every(), 0.0)
    for pair in pairs:
        for sender in sums:
            p = _patched(probe, pair, sender, position, receivers, read_as)
            sums[sender] += float(((p - pair.probability) / pair.probability).sum())
    count = sum(len(pair.probability) for pair in pairs)
    return {sender: total / count for sender, total in sums.items()}


def _patched(
    probe: Probe,
    pair: Pair,
    sender: Head,
    position: Position,
    receivers: Sequence[Head],
    read_as: Kind | None,
) -> Tensor:
    """(B,): the probability of the right answer."""
    places = _read_at(probe, receivers, read_as) if read_as is not None else {}
    own, theirs = pair.clean.at[position], pair.other.at[position]
    changes = {place: _held(states) for place, states in pair.outputs.items()}
    place = Place("output", sender.layer)
    moved = put(taken(pair.corrupt[place], theirs), [sender.head], own)(pair.outputs[place])
    changes[place] = _held(moved)
    with edit(probe.sites, changes), record(probe.sites, list(places)) as read:
        said = probe.answers(pair.clean)
    if read_as is None:
        return said.probability
    given = {place: put(taken(read[place], own), units, own) for place, units in places.items()}
    with edit(probe.sites, given):
        return probe.answers(pair.clean).probability


def _held(states: Tensor) -> Change:
    return lambda _: states


def _read_at(probe: Probe, receivers: Sequence[Head], kind: Kind) -> dict[Place, list[int]]:
    """Which units of which places the receivers read: heads of queries, groups of keys and values."""
    found: dict[Place, list[int]] = {}
    for layer, head in receivers:
        unit = head if kind == "query" else probe.sites.group(head)
        units = found.setdefault(Place(kind, layer), [])
        if unit not in units:
            units.append(unit)
    return found


@dataclass(frozen=True, slots=True)
class Found:
    """A circuit, and the effect of each head of the model in each stage, by group."""

    circuit: Circuit
    effects: Mapping[GroupName, Mapping[Head, float]]


def find(
    probe: Probe, pairs: Sequence[Pair], sizes: Mapping[GroupName, int], groups: Sequence[Group] = GROUPS
) -> Found:
    """The circuit, from the logits down: of each group the heads whose effect is the most negative, the
    strongest first, so many as `sizes` says and no more than have a negative one."""
    circuit: dict[GroupName, tuple[Head, ...]] = {}
    scores: dict[GroupName, dict[Head, float]] = {}
    for group in groups:
        receivers = circuit[group.read_by] if group.read_by is not None else ()
        found = effects(probe, pairs, group.position, receivers, group.read_as)
        strongest = sorted((one for one in found if found[one] < 0), key=found.__getitem__)
        scores[group.name] = found
        circuit[group.name] = tuple(strongest[: sizes[group.name]])
    return Found(circuit, scores)


def drawn(like: Circuit, every: Sequence[Head], rng: Random) -> Circuit:
    """A circuit of as many heads in each group as another's, from all heads of the model."""
    return {name: tuple(rng.sample(list(every), len(heads))) for name, heads in like.items()}
