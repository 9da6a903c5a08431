"""A network becomes a model's directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from turnsmith import seeds
from turnsmith.models import load

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Network = Callable[..., "tuple[PreTrainedModel, PreTrainedTokenizerBase]"]


def make(network: Network, options: Mapping[str, Any], directory: Path, *, seed: int) -> None:
    """Write the network with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.number(seed, "network"))
        model, words = network(**options)
    load.save(model.eval(), words, directory, base=None)
