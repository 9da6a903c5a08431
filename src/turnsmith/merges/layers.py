"""A smaller sibling of a model: some of its blocks, to be healed by training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from turnsmith.errors import ModelError, UsageError
from turnsmith.registry import merge

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = re.compile(r"(.*\blayers\.)([0-9]+)(\..*)")
EACH = ("layer_types",)  # settings that say something of each block


@merge("layers", source="arXiv:2403.17887 sec. 3")
class Layers:
    """Keep the blocks `keep` of one model, counted from 0, and all that is no block."""

    def __init__(self, *, keep: tuple[int, ...]) -> None:
        if not keep or len(set(keep)) < len(keep) or list(keep) != sorted(keep) or keep[0] < 0:
            raise UsageError(f"layers: keep is {list(keep)}: name blocks by their numbers from 0, in order")
        self.places = {number: place for place, number in enumerate(keep)}

    def settings(self, config: dict[str, Any]) -> dict[str, Any]:
        """The model's settings with as many blocks as are kept."""
        count = config.get("num_hidden_layers")
        if not isinstance(count, int):
            raise ModelError("layers: config.json does not say how many blocks there are (num_hidden_layers)")
        if beyond := [number for number in self.places if number >= count]:
            raise UsageError(
                f"layers: there is no block {beyond[0]}: the model has those from 0 to {count - 1}"
            )
        each = {name: [config[name][number] for number in self.places] for name in EACH if config.get(name)}
        return {**config, **each, "num_hidden_layers": len(self.places)}

    def rename(self, name: str) -> str | None:
        """The weight's name in the smaller model; None of a block that is left out."""
        found = BLOCK.fullmatch(name)
        if found is None:
            return name
        place = self.places.get(int(found[2]))
        return None if place is None else f"{found[1]}{place}{found[3]}"

    def __call__(self, name: str, base: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        """The model's weight as it is."""
        if len(tensors) != 1:
            raise UsageError(f"layers takes one model, not {len(tensors)}")
        return tensors[0]
