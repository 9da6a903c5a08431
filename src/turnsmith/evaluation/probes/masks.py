"""Desiderata-based component masking (DCM): what a group of heads carries, by what its outputs do in another
prompt.

Each hypothesis names, of a base and a source prompt, the answer to the base that is due once the heads that
carry the thing in question give what they gave in the source. Which of them do is learnt as a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from turnsmith.data.containers import Scene
from turnsmith.errors import DataError
from turnsmith.evaluation.probes.prompts import Answers, Asked, Position, Probe, Prompts, by_batch
from turnsmith.models.sites import Change, Head, Place, edit, taken

Hypothesis = Literal["position", "thing", "label"]
HYPOTHESES: tuple[Hypothesis, ...] = get_args(Hypothesis)


class Triple(NamedTuple):
    """A base and a source scene, and what a model answers to the base if the hypothesis is true."""

    base: Scene
    source: Scene
    expected: str


def triples(scenes: Mapping[str, Scene], hypothesis: Hypothesis, rng: Random) -> dict[str, Triple]:
    """One triple for each scene that has a source among the others, by id. Sources are drawn so that the
    other hypotheses expect something else, and what is right for the base is expected by none.

    position: the source asks for another box by number; the base's thing in the box of that number is due.
    thing: the source's answer is due, which is not in the base. label: the base has the source's label at
    another place, which is not the source's number either; its thing is due. Raises DataError where none has.
    """
    found: dict[str, Triple] = {}
    for id, base in scenes.items():
        fit = [(one, due) for one in scenes.values() if (due := _due(base, one, hypothesis)) is not None]
        if fit:
            found[id] = Triple(base, *rng.choice(fit))
    if not found:
        raise DataError(
            f"DCM: no two of {len(scenes)} scenes differ as the hypothesis {hypothesis!r} needs: take more "
            "scenes, or more labels and things to draw from"
        )
    return found


def _due(base: Scene, source: Scene, hypothesis: Hypothesis) -> str | None:
    """What is expected of the base with this source; None where they do not tell the hypotheses apart."""
    if source.index == base.index or source.answer in base.things or source.index >= len(base.things):
        return None
    if hypothesis == "thing":
        return source.answer
    place = base.boxes.index(source.asked) if source.asked in base.boxes else None
    if hypothesis == "position":
        return base.things[source.index] if place is None else None
    return None if place is None or place in (base.index, source.index) else base.things[place]


@dataclass(frozen=True, slots=True, eq=False)
class Swaps:
    """A batch of triples. base: prompts whose answer is what is expected. given: (B, heads, size) by place,
    what the heads gave in the source, at the source's position."""

    base: Prompts
    given: Mapping[Place, Tensor]


def swaps(
    probe: Probe, found: Mapping[str, Triple], position: Position, layers: Sequence[int]
) -> list[Swaps]:
    """The triples in batches, for heads of these layers that write at `position`."""
    made = []
    ids = list(found)
    for batch in by_batch([Asked(found[id].base, found[id].expected, id) for id in ids]):
        base = probe.prompts(batch)
        sources = [found[one.id].source for one in batch]
        source = probe.prompts(
            [Asked(one, one.answer, own.id) for one, own in zip(sources, batch, strict=True)]
        )
        outputs, _ = probe.outputs(source)
        places = [Place("output", layer) for layer in layers]
        made.append(Swaps(base, {place: taken(outputs[place], source.at[position]) for place in places}))
    return made


def swapped(probe: Probe, batch: Swaps, heads: Sequence[Head], mask: Tensor, position: Position) -> Answers:
    """What is said of the expected answers with w * base + (1 - w) * source in place of what each head gives.

    mask: w, (heads,), 1 keeps what the head gives in the base.
    """
    changes: dict[Place, Change] = {}
    for place, given in batch.given.items():
        own = [number for number, head in enumerate(heads) if head.layer == place.layer]
        units = [heads[number].head for number in own]
        changes[place] = _mixed(given[:, units], units, mask[own], batch.base.at[position])
    with edit(probe.sites, changes):
        return probe.answers(batch.base)


def _mixed(given: Tensor, units: Sequence[int], mask: Tensor, at: Tensor) -> Change:
    """given: (B, n, size), mask: (n,), of the n units at position `at` (B,)."""

    def change(states: Tensor) -> Tensor:
        rows = torch.arange(len(at), device=states.device)[:, None]
        chosen = torch.tensor(list(units), dtype=torch.long, device=states.device)
        keep = mask[:, None].to(states.dtype)
        after = states.clone()
        after[rows, at[:, None], chosen] = keep * states[rows, at[:, None], chosen] + (1 - keep) * given
        return after

    return change


class Learnt(NamedTuple):
    """mask: (heads,) of 0 and 1. rate: the share of the held-out triples that come out as expected with it;
    steps: the masks (heads,) after each step, before they were rounded."""

    mask: Tensor
    rate: float
    steps: tuple[Tensor, ...]


def learnt(
    probe: Probe,
    heads: Sequence[Head],
    position: Position,
    train: Sequence[Swaps],
    held: Sequence[Swaps],
    *,
    penalty: float = 0.01,
    lr: float = 0.1,
    epochs: int = 10,
) -> Learnt:
    """The mask under which the expected answers come out most often on held-out triples.

    It starts at 1, minimises - mean logit of the expected answer + penalty * sum(1 - w) by Adam, one step for
    each batch, stays in [0, 1], and after each step is rounded and tried; where two are as good, the one that
    swaps more heads is kept. Gradients are asked for of the mask alone: nothing of the model changes.
    penalty: the paper's lambda. Source: arXiv:2402.14811 sec. 5.1; Nix07/finetuning, experiment_2/DCM.py.
    """
    mask = torch.ones(len(heads), device=probe.scoring.device, requires_grad=True)
    optimiser = torch.optim.Adam([mask], lr=lr)
    best = mask.detach().clone()
    reached = (rate(probe, held, heads, best, position), 0.0)
    steps: list[Tensor] = []
    for _ in range(epochs):
        for batch in train:
            with torch.enable_grad():
                logit = swapped(probe, batch, heads, mask, position).logit.mean()
                loss = -logit + penalty * (1 - mask).sum()
                (mask.grad,) = torch.autograd.grad(loss, [mask])
            optimiser.step()
            with torch.no_grad():
                mask.clamp_(0, 1)
            steps.append(mask.detach().clone())
            rounded = steps[-1].round()
            came = (rate(probe, held, heads, rounded, position), float((1 - rounded).sum()))
            if came > reached:
                best, reached = rounded, came
    return Learnt(best, reached[0], tuple(steps))


def rate(
    probe: Probe, held: Sequence[Swaps], heads: Sequence[Head], mask: Tensor, position: Position
) -> float:
    """The share of the triples that come out as expected."""
    return float(rights(probe, held, heads, mask, position).mean())


def rights(
    probe: Probe, held: Sequence[Swaps], heads: Sequence[Head], mask: Tensor, position: Position
) -> Tensor:
    """(B,) over all triples: 1 where what is said is what was expected."""
    with torch.no_grad():
        return torch.cat([swapped(probe, one, heads, mask, position).right for one in held])
