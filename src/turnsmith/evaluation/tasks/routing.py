"""Which half of the experts a mixture's routers send examples of knowledge to, and which half the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from turnsmith.data.batch import micro_batches
from turnsmith.errors import DataError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.models.score import along_paths
from turnsmith.registry import task
from turnsmith.trainables.mixture import KNOWLEDGE, mixtures
from turnsmith.types import Example


@task("routing", data=True)
class Routing:
    """What the second half of the experts of a mixture (`loramoe`) is given of each conversation.

    on: the data; examples with `values["knowledge"]` 1 ask for what the model knows, those with 0 for
    something else, others are left out. length: conversations are cut after so many tokens. A model without
    routers treats both alike: it gives each half a half.
    """

    title = "Which experts serve knowledge"
    note = (
        "The share of the routers' weights that the second half of the experts is given, the mean over "
        "layers and tokens. Above a half on examples of knowledge and below it on others, that half is the "
        "one for knowledge; the other way round, the first. Apart: how far the share lies on the side where "
        "the second half is the one for knowledge, 0 where both types are treated alike."
    )
    metrics = (
        Metric("share of the second half", "second", "share", "higher", of="conversations", grouped=True),
        Metric("apart", "apart", "share", "higher", of="conversations"),
    )

    def __init__(self, *, on: str, length: int = 512) -> None:
        self.on, self.length = on, length

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        return shares(subject, bench.examples(self.on), self.length)


@torch.no_grad()
def shares(subject: Subject, examples: Sequence[Example], length: int) -> list[Item]:
    """For each conversation with a type: `second`, and `apart`, which is second - 1/2 where the type is 1 and
    1/2 - second where it is 0."""
    kinds = {one.id: one.values.get(KNOWLEDGE) for one in examples}
    wanted = [one for one in examples if kinds[one.id] in (0, 1)]
    if not wanted:
        raise DataError(f"no example has the value {KNOWLEDGE!r} 1 or 0: give it with the stage `value`")
    subject.lost[f"left out: without the value {KNOWLEDGE!r} 0 or 1"] += len(examples) - len(wanted)
    rendered = subject.rendered(wanted, ("text",), length=length, over="right")
    items: list[Item] = []
    for run in micro_batches(rendered, subject.row):
        batch = subject.batch(run)
        with watched(subject.scoring) as gates:
            subject.scoring(batch)
        second = _second(list(gates.values()), batch.inputs.numel())
        places, path = along_paths(batch)
        totals = second.new_zeros(len(batch.paths), 2).index_add(
            0, path, torch.stack([second[places], torch.ones_like(second[places])], 1)
        )
        found: dict[int, Tensor] = {}
        for one, total in zip(batch.paths, totals, strict=True):
            found[one.example] = found.get(one.example, 0) + total
        for number, total in found.items():
            share, id = float(total[0] / total[1]), batch.ids[number]
            side = 1 if kinds[id] == 1 else -1
            items.append(
                Item(
                    id,
                    "knowledge" if side == 1 else "other",
                    {"second": share, "apart": side * (share - 0.5)},
                )
            )
    return items


@contextmanager
def watched(model: nn.Module) -> Iterator[Mapping[str, Tensor]]:
    """While this is open, the routers' weights (..., experts) of the last forward pass, by layer."""
    found: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found[name] = output.float().softmax(-1)

        return keep

    hooks = [one.router.register_forward_hook(note(name)) for name, one in mixtures(model).items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _second(gates: Sequence[Tensor], slots: int) -> Tensor:
    """(slots,): what the second half of the experts is given, the mean over layers; 1/2 without routers."""
    if not gates:
        return torch.full((slots,), 0.5)
    shares = [one.flatten(0, -2)[:, one.shape[-1] // 2 :].sum(1) for one in gates]
    return torch.stack(shares).mean(0)
