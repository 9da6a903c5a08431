"""Randomness keyed by what it is for: (seed, purpose, step, example, draw), never by the order of work."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    Key = str | int


def number(*key: Key) -> int:
    """A 63-bit number that depends on the key alone: same key, same number, on every machine.

    >>> number(0, "order", 1) == number(0, "order", 1) != number(0, "order", 2)
    True
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(*key: Key) -> random.Random:
    """Python's generator for this key."""
    return random.Random(number(*key))


def array(*key: Key) -> np.random.Generator:
    """NumPy's generator for this key."""
    import numpy as np

    return np.random.default_rng(number(*key))


def tensor(*key: Key) -> torch.Generator:
    """Torch's CPU generator for this key."""
    import torch

    return torch.Generator().manual_seed(number(*key))
