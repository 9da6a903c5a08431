"""What each group of heads of a circuit carries: where the thing stands, the thing itself, or the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from turnsmith import seeds
from turnsmith.data.containers import Scene
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.probes.circuit import Search, other, scenes_of
from turnsmith.evaluation.probes.masks import HYPOTHESES, Hypothesis, learnt, rights, swaps, triples
from turnsmith.evaluation.probes.paths import GROUPS, Group
from turnsmith.evaluation.probes.prompts import Probe
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.models.sites import Head
from turnsmith.registry import task
from turnsmith.types import Json

SPOKEN = {"position": "positions", "thing": "things", "label": "labels"}


@task(
    "carried",
    data=True,
    models=("of",),
    beside=("search",),
    source="arXiv:2402.14811 sec. 5.1; Nix07/finetuning, experiment_2",
)
class Carried:
    """Desiderata-based component masking: what the groups of a circuit carry, each under three hypotheses.

    on: scenes of the stage `containers`; each is asked beside others of them whose answers tell the
    hypotheses apart (`triples`). search: scenes on which the circuit is found, and the masks are learnt and
    chosen, on one half each. of: the model whose circuit it is, by default the measured one. sizes, shape: as
    of `circuit`; nothing is pruned, since the mask drops heads. penalty: for each head whose output is
    exchanged, the paper's lambda; lr: of Adam; epochs: how often the masks see their half. A figure is the
    share of prompts that come out as the hypothesis says once the outputs of the heads that the mask chose
    are those of the source; `alone` is that share without any exchange. Raises as `circuit`, and DataError
    where scenes do not differ as a hypothesis needs.
    """

    title = "What the heads of a circuit carry"
    note = (
        "Heads of a group give in one prompt what they gave in another. If they carry positions, the "
        "answer is the thing in the box at the other's position; if things, the other's thing; if labels, "
        "the thing in the box of the other's label. Which heads of the group take part is learnt for each "
        "(DCM)."
    )
    metrics = (
        *(
            Metric(f"{group.name} carry {spoken}", f"{group.name}:{name}", "share", "higher", of="prompts")
            for group in GROUPS
            for name, spoken in SPOKEN.items()
        ),
        *(
            Metric(f"{spoken} expected alone", f"alone:{name}", "share", "higher", of="prompts")
            for name, spoken in SPOKEN.items()
        ),
        *(
            Metric(
                f"{group.name} carry {spoken}, above alone",
                f"gain:{group.name}:{name}",
                "change in share",
                "higher",
                of="prompts",
            )
            for group in GROUPS
            for name, spoken in SPOKEN.items()
        ),
    )

    def __init__(
        self,
        *,
        on: str,
        search: str,
        of: str | None = None,
        sizes: tuple[int, ...] = (20, 5, 10, 5),
        shape: Literal["chain", "star"] = "chain",
        penalty: float = 0.01,
        lr: float = 0.1,
        epochs: int = 10,
    ) -> None:
        self.on, self.beside, self.of = on, search, of
        self.search = Search("carried", sizes, 0.0, shape, "patching")
        self.fit = {"penalty": penalty, "lr": lr}
        self.epochs = epochs

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        probe = Probe.of(subject.scoring, subject.renderer, "carried")
        search, asked = scenes_of(bench.examples(self.beside)), scenes_of(bench.examples(self.on))
        model = probe if self.of is None else other(self.of, probe, "carried")
        circuit = self.search(model, search)[0].circuit
        values: dict[str, dict[str, float]] = {id: {} for id in asked}
        shown: dict[str, Json] = {}
        for hypothesis in HYPOTHESES:
            for group in GROUPS:
                heads = circuit[group.name]
                chosen, rates = self._tried(probe, search, asked, group, heads, hypothesis)
                shown[f"{group.name}:{hypothesis}"] = [list(head) for head in chosen]
                for id, (came, alone) in rates.items():
                    values[id] |= {f"{group.name}:{hypothesis}": came, f"alone:{hypothesis}": alone}
                    values[id] |= {f"gain:{group.name}:{hypothesis}": came - alone}
        return [Item(id, "", row, shown if not at else {}) for at, (id, row) in enumerate(values.items())]

    def _tried(
        self,
        probe: Probe,
        search: Mapping[str, Scene],
        asked: Mapping[str, Scene],
        group: Group,
        heads: Sequence[Head],
        hypothesis: Hypothesis,
    ) -> tuple[list[Head], dict[str, tuple[float, float]]]:
        """The heads that the mask chose, and for each prompt whether it came out as expected with their
        outputs exchanged, and without."""
        layers = sorted({head.layer for head in heads})
        halves = list(search.items())[::2], list(search.items())[1::2]
        rng = seeds.stream("carried", hypothesis)
        train, held = (
            swaps(probe, triples(dict(half), hypothesis, rng), group.position, layers) for half in halves
        )
        found = triples(asked, hypothesis, rng)
        mask = learnt(probe, heads, group.position, train, held, epochs=self.epochs, **self.fit).mask
        test = swaps(probe, found, group.position, layers)
        came, alone = (
            rights(probe, test, heads, one, group.position).tolist() for one in (mask, torch.ones_like(mask))
        )
        chosen = [head for head, keeps in zip(heads, mask.tolist(), strict=True) if not keeps]
        return chosen, dict(zip(found, zip(came, alone, strict=True), strict=True))
