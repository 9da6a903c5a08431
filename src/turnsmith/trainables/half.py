"""Half fine-tuning: a random half of the weight matrices learns, the other half stays as it was."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

from torch import nn

from turnsmith.errors import ModelError
from turnsmith.registry import trainable
from turnsmith.trainables.install import Draw

Level = Literal["category", "layer", "model"]

BLOCK = re.compile(r"^(.*?\.\d+)\.")  # experts within a block have numbers too: the first one counts
ATTENTION = re.compile(r"\.\w*att(n|ention)\w*\.")


@trainable("half", source="arXiv:2404.18466 sec. 3")
class Half:
    """Half of the matrices learns, drawn anew for each training stage (HFT).

    level: `category` takes 2 of the 4 attention matrices of every block, of its 3 feed-forward matrices two
    in a random half of the blocks and one in the others, and one of its 2 norms. `layer` takes half of the
    blocks whole, `model` half of all matrices and half of all norms of the blocks, wherever they are. What is
    outside the blocks (embeddings, output projection, last norm) always learns, and a bias follows its
    matrix. resample: `epoch` draws again at the start of every epoch; what then freezes loses its optimiser
    state.
    """

    def __init__(
        self,
        *,
        level: Literal["category", "layer", "model"] = "category",
        resample: Literal["stage", "epoch"] = "stage",
    ) -> None:
        self.level: Level = level
        self.redraw = resample == "epoch"

    def select(self, model: nn.Module, draw: Draw) -> dict[str, bool]:
        """Which parameters learn."""
        return halve({name: p.ndim for name, p in model.named_parameters()}, draw.rng, self.level)


def halve(dimensions: Mapping[str, int], rng: Random, level: Level = "category") -> dict[str, bool]:
    """Which of the parameters, given with their number of dimensions, belong to the drawn half.

    Raises ModelError where the names do not tell blocks, or a block's matrices are not those of the paper.
    """
    blocks: dict[str, list[str]] = defaultdict(list)
    for name in dimensions:
        if found := BLOCK.match(name):
            blocks[found[1]].append(name)
    if not blocks:
        raise ModelError(
            "half: the names of this model's parameters do not tell its blocks: use another trainable"
        )
    inside = [sorted(names) for names in blocks.values()]
    leaders = [[name for name in names if not name.endswith(".bias")] for names in inside]
    if level == "category":
        learns = _by_category(leaders, dimensions, rng)
    elif level == "layer":
        learns = {name for names in rng.sample(leaders, len(leaders) // 2) for name in names}
    else:
        every = [name for names in leaders for name in names]
        kinds = [[n for n in every if dimensions[n] > 1], [n for n in every if dimensions[n] <= 1]]
        learns = {name for kind in kinds for name in rng.sample(kind, len(kind) // 2)}
    blocked = {name for names in inside for name in names}
    return {name: name not in blocked or _leader(name, dimensions) in learns for name in dimensions}


def _by_category(blocks: Sequence[Sequence[str]], dimensions: Mapping[str, int], rng: Random) -> set[str]:
    """Half of the attention, the feed-forward matrices and the norms of every block."""
    learns: set[str] = set()
    more = set(rng.sample(range(len(blocks)), len(blocks) // 2))  # blocks that take two of three
    for number, names in enumerate(blocks):
        matrices = [name for name in names if dimensions[name] > 1]
        attention = [name for name in matrices if ATTENTION.search(name)]
        forward = [name for name in matrices if name not in attention]
        if len(attention) != 4 or len(forward) not in (2, 3):
            raise ModelError(
                f"half: {names[0].rpartition('.')[0]} stands in a block with {len(attention)} attention and "
                f"{len(forward)} feed-forward matrices, not 4 and 2 or 3 (fused or expert weights?): use "
                "half: {level: model}"
            )
        norms = [name for name in names if dimensions[name] <= 1]
        for kind in (attention, forward, norms):
            odd = len(kind) % 2 == 1 and number in more
            learns.update(rng.sample(kind, len(kind) // 2 + odd))
    return learns


def _leader(name: str, dimensions: Mapping[str, int]) -> str:
    """The weight that a bias follows; every other parameter follows itself."""
    weight = f"{name.removesuffix('bias')}weight"
    return weight if name.endswith(".bias") and weight in dimensions else name
