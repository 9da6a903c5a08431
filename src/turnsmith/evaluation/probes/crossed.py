"""Cross-model activation patching (CMAP): which heads of a tuned model make the difference, put into its
base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from turnsmith import seeds
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.probes.ablation import written
from turnsmith.evaluation.probes.circuit import DRAWS, Search, described, other, scenes_of
from turnsmith.evaluation.probes.paths import GROUPS, Circuit, drawn
from turnsmith.evaluation.probes.prompts import Asked, Position, Probe, Prompts, by_batch
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.models.sites import (
    Change,
    Head,
    Kind,
    Place,
    chained,
    edit,
    put,
    put_everywhere,
    record,
    taken,
)
from turnsmith.registry import task

Heads = Mapping[Position, set[Head]]  # by where they write


@task(
    "crossed",
    data=True,
    models=("donor",),
    beside=("search",),
    source="arXiv:2402.14811 sec. 5.2; Nix07/finetuning, experiment_3",
)
class Crossed:
    """Cross-model activation patching: heads of the measured model give what those of a tuned one give to the
    same prompt.

    on: scenes of the stage `containers`; search: others, on which the measured model's circuit is found and
    pruned. donor: the model that was tuned from it, of the same shape and with the same tokens. sizes,
    prune, choice: as of `circuit`. what: `outputs` puts in what the heads of a group give where it works;
    `inputs` their queries there, and the keys and values of their groups everywhere, while all other outputs
    are held at those of the measured model, heads that share the keys among them. Raises as `circuit`, and
    ModelError where the models differ in shape or in their tokens.
    """

    title = "What heads of a tuned model bring to its base"
    note = (
        "The share of right answers once some heads of the model give what those of the tuned model give "
        "to the same prompt, and the gain by that. Random heads are as many in each group; their figure is "
        "the mean over several draws."
    )
    metrics = (
        Metric("accuracy", "alone", "share", "higher", of="prompts"),
        Metric("accuracy of the donor", "donor", "share", "higher", of="prompts"),
        *(
            Metric(f"accuracy with {name}", name, "share", "higher", of="prompts")
            for name in ("circuit", *(group.name for group in GROUPS), "random", "every")
        ),
        *(
            Metric(f"gain from {name}", f"gain:{name}", "change in share", "higher", of="prompts")
            for name in ("circuit", *(group.name for group in GROUPS), "random", "every")
        ),
        Metric("gain above random", "above", "change in share", "higher", of="prompts"),
    )

    def __init__(
        self,
        *,
        on: str,
        search: str,
        donor: str,
        sizes: tuple[int, ...] = (20, 5, 10, 5),
        prune: float = 0.01,
        shape: Literal["chain", "star"] = "chain",
        choice: Literal["patching", "chance"] = "patching",
        what: Literal["outputs", "inputs"] = "outputs",
    ) -> None:
        self.on, self.beside, self.donor, self.what = on, search, donor, what
        self.search = Search("crossed", sizes, prune, shape, choice)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        probe = Probe.of(subject.scoring, subject.renderer, "crossed")
        donor = other(self.donor, probe, "crossed")
        found, _ = self.search(probe, scenes_of(bench.examples(self.beside)))
        asked = [Asked(one, one.answer, id) for id, one in scenes_of(bench.examples(self.on)).items()]
        rows: list[dict[str, Tensor]] = []
        for batch in by_batch(asked):
            rows.append(self._values(probe, donor, probe.prompts(batch), found.circuit))
        values = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        shown = described(found, probe)
        return [
            Item(one.id, "", {name: float(row[at]) for name, row in values.items()}, shown if not at else {})
            for at, one in enumerate(asked)
        ]

    @torch.no_grad()
    def _values(self, probe: Probe, donor: Probe, prompts: Prompts, circuit: Circuit) -> dict[str, Tensor]:
        """(B,) each: right or not, with heads of the donor, by what they are; and what they add."""
        every = probe.sites.every()
        rngs = [seeds.stream("crossed", number) for number in range(DRAWS)]
        sets: dict[str, list[Heads]] = {"circuit": [written(circuit)]}
        sets |= {one.name: [{one.position: set(circuit[one.name])}] for one in GROUPS}
        sets["random"] = [written(drawn(circuit, every, rng)) for rng in rngs]
        given = Given.of(donor, prompts)
        own = Given.of(probe, prompts)
        found = {"alone": own.right, "donor": given.right}
        put_in = given.outputs if self.what == "outputs" else given.inputs
        for name, heads in sets.items():
            changed = [self._right(probe, prompts, put_in(probe, prompts, one, own)) for one in heads]
            found[name] = torch.stack(changed).mean(0)
        whole = {place: _instead(states) for place, states in given.states.items() if place.kind == "output"}
        found["every"] = self._right(probe, prompts, whole)
        gains = {f"gain:{name}": found[name] - found["alone"] for name in (*sets, "every")}
        return {**found, **gains, "above": found["circuit"] - found["random"]}

    def _right(self, probe: Probe, prompts: Prompts, changes: Mapping[Place, Change]) -> Tensor:
        with edit(probe.sites, changes):
            return probe.answers(prompts).right


class Given:
    """What stands at all places of a model, (B, T, units, size) each, for a batch of prompts, and whether it
    answers them right, (B,)."""

    def __init__(self, states: Mapping[Place, Tensor], right: Tensor) -> None:
        self.states, self.right = states, right

    @classmethod
    def of(cls, probe: Probe, prompts: Prompts) -> Given:
        kinds: tuple[Kind, ...] = ("output", "query", "key", "value")
        wanted = [Place(kind, layer) for kind in kinds for layer in range(len(probe.sites.layers))]
        with record(probe.sites, wanted) as states:
            right = probe.answers(prompts).right
        return cls(states, right)

    def outputs(self, probe: Probe, prompts: Prompts, heads: Heads, own: Given) -> dict[Place, Change]:
        """The changes that let heads of another model give what they give here, where they write."""
        changes: dict[Place, list[Change]] = {}
        for position, ones in heads.items():
            for place, units in _by_layer("output", ones).items():
                values = taken(self.states[place], prompts.at[position])
                changes.setdefault(place, []).append(put(values, units, prompts.at[position]))
        return {place: chained(*ones) for place, ones in changes.items()}

    def inputs(self, probe: Probe, prompts: Prompts, heads: Heads, own: Given) -> dict[Place, Change]:
        """The changes that let heads read what they read here: their queries where they write, and the keys
        and values of their groups. What other heads give, and these elsewhere, stays as it is in `own`."""
        changes: dict[Place, list[Change]] = {}
        free: dict[Place, list[tuple[list[int], Tensor]]] = {}
        for position, ones in heads.items():
            at = prompts.at[position]
            for place, units in _by_layer("query", ones).items():
                changes.setdefault(place, []).append(put(taken(self.states[place], at), units, at))
                free.setdefault(Place("output", place.layer), []).append((units, at))
                groups = sorted({probe.sites.group(unit) for unit in units})
                for kind in ("key", "value"):
                    shared = Place(kind, place.layer)
                    changes.setdefault(shared, []).append(put_everywhere(self.states[shared], groups))
        held = {
            place: [_held_but(states, free.get(place, []))]
            for place, states in own.states.items()
            if place.kind == "output" and place in free
        }
        return {place: chained(*ones) for place, ones in {**changes, **held}.items()}


def _held_but(states: Tensor, free: list[tuple[list[int], Tensor]]) -> Change:
    """The change to `states`, except for these units at these positions (B,), which stay as they come."""

    def change(came: Tensor) -> Tensor:
        made = states
        for units, at in free:
            made = put(taken(came, at), units, at)(made)
        return made

    return change


def _instead(states: Tensor) -> Change:
    return lambda _: states


def _by_layer(kind: Kind, heads: set[Head]) -> dict[Place, list[int]]:
    """The heads by their place, from the lowest layer up."""
    found: dict[Place, list[int]] = {}
    for layer, head in sorted(heads):
        found.setdefault(Place(kind, layer), []).append(head)
    return found
