"""Whether the heads that path patching finds do alone what the model does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

import torch
from torch import Tensor

from turnsmith import seeds
from turnsmith.data.containers import Scene, scene
from turnsmith.errors import ModelError, UsageError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.probes.ablation import Ablation, Means, means, pruned, share, without, written
from turnsmith.evaluation.probes.paths import Circuit, Found, GroupName, Shape, arranged, drawn, find, pairs
from turnsmith.evaluation.probes.prompts import Asked, Probe, alike, by_batch
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.scorers.loading import loaded
from turnsmith.types import Example, Json

Choice = Literal["patching", "chance"]
NAMES: tuple[GroupName, ...] = get_args(GroupName)
CURVE = {"quarter": 0.25, "half": 0.5, "circuit": 1.0}  # parts of the heads of each group
FAITHFULNESS = {
    "faithfulness": "circuit",
    "faithfulness of a half": "half",
    "faithfulness of a quarter": "quarter",
    "faithfulness above random": "above",
}
DRAWS = 5  # random circuits, and random sets of heads that are taken out


@dataclass(frozen=True, slots=True)
class Search:
    """How a circuit is looked for. sizes: most heads of each group, in the order of `NAMES`; prune: the share
    of the circuit's accuracy that a head has to add, 0 keeps all; choice: by path patching, or as many heads
    as that finds, drawn at random, which is what it is to be compared with. who: the task, for errors."""

    who: str
    sizes: tuple[int, ...]
    prune: float
    shape: Shape
    choice: Choice

    def __post_init__(self) -> None:
        if len(self.sizes) != len(NAMES) or min(self.sizes) < 1 or not 0 <= self.prune < 1:
            raise UsageError(
                f"{self.who}: sizes is {self.sizes} and prune {self.prune}: sizes are four, each 1 or more, "
                f"for {', '.join(NAMES)}, and 0 <= prune < 1"
            )

    def __call__(self, probe: Probe, scenes: Mapping[str, Scene]) -> tuple[Found, Means]:
        """The circuit of a model, and what its heads give on the average to corrupted prompts."""
        both = pairs(probe, scenes)
        sizes = dict(zip(NAMES, self.sizes, strict=True))
        found, average = find(probe, both, sizes, arranged(self.shape)), means(both)
        circuit = found.circuit
        if self.prune:
            ablation = Ablation(probe, average, [pair.clean for pair in both])
            circuit = pruned(ablation, circuit, least=self.prune, partners=0.3)  # 0.3: the paper's share
        if self.choice == "chance":
            circuit = drawn(circuit, probe.sites.every(), seeds.stream("circuit by chance"))
        return Found(circuit, found.effects), average


@task(
    "circuit",
    data=True,
    models=("of",),
    beside=("search",),
    source="arXiv:2402.14811 sec. 4; Nix07/finetuning, experiment_1",
)
class CircuitTask:
    """Path patching, and what its circuit answers alone when all other heads give their means.

    on: scenes of the stage `containers` that are asked; search: others, on which the circuit is found,
    pruned, and the means are taken. of: the model whose circuit it is, by default the measured one: a circuit
    of the base in a tuned model tells whether tuning kept it. sizes: most heads of the value fetchers,
    position transmitters, position detectors and structure readers. prune: heads that add less than this
    share of the circuit's accuracy are dropped. shape: a `chain`, in which each group is read by the one
    above it, or a `star`, in which the fetchers read all others, as in a model of two layers. choice:
    `chance` draws as many heads in place of those that were found. Heads outside are taken out where circuits
    work: at the last token, the label that is asked for, and where it stood before. Values belong to groups
    of heads (grouped-query attention), so that detectors and readers are found by what all heads of a
    receiver's group get of them. Raises DataError where data were not made by `containers`, or a thing is not
    one token; ModelError where the family has no heads to look into, where the model answers nothing, or the
    circuit is of a model of another shape.
    """

    title = "The circuit that tracks things"
    note = (
        "Right: the thing in the box is the likeliest token. The circuit answers with all heads outside it "
        "replaced by their means over corrupted prompts, at the positions where it works. Faithfulness is "
        "what it has of the model's accuracy. Random circuits have as many heads in each group. "
        "Incompleteness: what the model answers without some heads of the circuit and the circuit does not."
    )
    metrics = (
        Metric("accuracy", "whole", "share", "higher", of="prompts"),
        Metric("accuracy of the circuit", "circuit", "share", "higher", of="prompts"),
        Metric("accuracy of random circuits", "random", "share", "higher", of="prompts"),
        Metric("accuracy of no circuit", "nothing", "share", "higher", of="prompts"),
        *(
            Metric(name, value, "ratio", "higher", of="prompts", reduce="ratio", others=("whole",))
            for name, value in FAITHFULNESS.items()
        ),
        Metric("incompleteness", "incomplete", "change in share", "lower", of="prompts"),
    )

    def __init__(
        self,
        *,
        on: str,
        search: str,
        of: str | None = None,
        sizes: tuple[int, ...] = (20, 5, 10, 5),
        prune: float = 0.01,
        shape: Literal["chain", "star"] = "chain",
        choice: Literal["patching", "chance"] = "patching",
    ) -> None:
        self.on, self.beside, self.of = on, search, of
        self.search = Search("circuit", sizes, prune, shape, choice)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        probe = Probe.of(subject.scoring, subject.renderer, "circuit")
        scenes = scenes_of(bench.examples(self.beside))
        if self.of is None:
            found, average = self.search(probe, scenes)
        else:
            found, _ = self.search(other(self.of, probe, "circuit"), scenes)
            average = means(pairs(probe, scenes))
        asked = [Asked(one, one.answer, id) for id, one in scenes_of(bench.examples(self.on)).items()]
        ablation = Ablation(probe, average, [probe.prompts(batch) for batch in by_batch(asked)])
        values = figures(ablation, found.circuit)
        if not values["whole"].any():
            raise ModelError(
                f"circuit: {subject.name} answers none of {len(asked)} prompts, so that there is nothing "
                "that a circuit could be faithful to: train it on the stage `containers` first"
            )
        shown = [described(found, probe)] + [{}] * (len(asked) - 1)  # once: it is of no prompt by itself
        return [
            Item(one.id, "", {name: float(row[at]) for name, row in values.items()}, shown[at])
            for at, one in enumerate(asked)
        ]


def figures(ablation: Ablation, circuit: Circuit) -> dict[str, Tensor]:
    """(B,) each: right or not of the whole model, parts of the circuit, random circuits (their mean), no
    heads; `above`, of the circuit less random ones; `incomplete`, see `incompleteness`."""
    every = ablation.probe.sites.every()
    found = {name: ablation.right(share(circuit, part)) for name, part in CURVE.items()}
    rngs = [seeds.stream("random circuit", number) for number in range(DRAWS)]
    found["random"] = torch.stack([ablation.right(drawn(circuit, every, rng)) for rng in rngs]).mean(0)
    found["nothing"] = ablation.right(dict.fromkeys(circuit, ()))
    found["whole"] = ablation.right_without({})
    found["above"] = found["circuit"] - found["random"]
    found["incomplete"] = incompleteness(ablation, circuit, seeds.stream("completeness"))
    return found


def incompleteness(ablation: Ablation, circuit: Circuit, rng: Random) -> Tensor:
    """(B,): right or not of the whole model without K less that of the circuit without K, the mean over K:
    each group as a whole, and random halves of the circuit. What is missing in a circuit shows where its own
    heads are gone. Source: arXiv:2402.14811 app. C; Nix07/finetuning, experiment_1/completeness.py."""
    apart: list[Tensor] = []
    for taken in (*_groups(circuit), *(_half(circuit, rng) for _ in range(DRAWS))):
        left = circuit
        for name, heads in taken.items():
            left = without(left, name, heads)
        full: Circuit = {name: taken.get(name, ()) for name in circuit}
        apart.append(ablation.right_without(written(full)) - ablation.right(left))
    return torch.stack(apart).mean(0)


def _groups(circuit: Circuit) -> list[Circuit]:
    return [{name: heads} for name, heads in circuit.items()]


def _half(circuit: Circuit, rng: Random) -> Circuit:
    return {name: tuple(rng.sample(heads, math.ceil(len(heads) / 2))) for name, heads in circuit.items()}


def scenes_of(examples: Sequence[Example]) -> dict[str, Scene]:
    """By the examples' ids."""
    return {example.id: scene(example) for example in examples}


def other(reference: str, probe: Probe, who: str) -> Probe:
    """Another model of the same shape and with the same tokens, in the same arithmetic. Raises ModelError
    where it has others."""
    scoring, renderer, _ = loaded(reference, asked=str(probe.scoring.base.dtype).removeprefix("torch."))
    found = Probe.of(scoring, renderer, who)
    alike(reference, found, probe, who)
    return found


def described(found: Found, probe: Probe) -> Mapping[str, Json]:
    """The circuit and the effects of its heads, and of how many they are, as JSON."""
    names = {name: [list(head) for head in heads] for name, heads in found.circuit.items()}
    scores = {name: [[*head, score] for head, score in rows.items()] for name, rows in found.effects.items()}
    return {"circuit": names, "effects": scores, "heads": len(probe.sites.every())}
