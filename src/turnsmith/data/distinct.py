"""Whether an id was there before, for millions of ids."""

from __future__ import annotations

import hashlib
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

FRESH = 1 << 16  # digests that are held as Python objects before they are packed
SIZE = 16  # bytes of a digest: two of 10**9 ids share one with a probability of 10**-21


class Distinct:
    """Takes ids and says of each whether it is new. An id costs 16 bytes, however long it is."""

    def __init__(self) -> None:
        self._fresh: set[bytes] = set()
        self._packed: np.ndarray | None = None  # sorted

    def __len__(self) -> int:
        return len(self._fresh) + (0 if self._packed is None else len(self._packed))

    def add(self, id: str) -> bool:
        """Take the id; False where it was taken before."""
        found = digest(id)
        if found in self._fresh or self._is_packed(found):
            return False
        self._fresh.add(found)
        if len(self._fresh) >= FRESH:
            self._pack()
        return True

    def _is_packed(self, wanted: bytes) -> bool:
        packed = self._packed
        if packed is None:
            return False
        at = int(packed.searchsorted(wanted))
        return at < len(packed) and bytes(packed[at]).ljust(SIZE, b"\0") == wanted  # NumPy takes zeros off

    def _pack(self) -> None:
        import numpy as np

        older = [] if self._packed is None else [self._packed]
        fresh = np.frombuffer(b"".join(chain(self._fresh)), f"S{SIZE}")
        self._packed = np.sort(np.concatenate([*older, fresh]))
        self._fresh.clear()


def digest(id: str) -> bytes:
    """What stands for an id."""
    return hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=SIZE).digest()
