"""What stands at the head of a GGUF file, looked at before anybody else reads it.

Other readers believe the file: they would make a model of as many layers as it tells of, and go through lists
of as many items. Source: the specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import mmap
import struct
from math import prod
from pathlib import Path
from typing import Any

from turnsmith.errors import ModelError

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
TEXT, LIST = 8, 9
VERSIONS = (2, 3)
DIMENSIONS = 4  # of a tensor, at most
DEEPEST = 4  # lists in lists
SIZES = (  # settings that no reader may take for more than the largest dimension of a tensor
    *("embedding_length", "feed_forward_length", "vocab_size", "expert_count", "expert_feed_forward_length"),
    *("attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"),
)


def check(file: Path) -> None:
    """Raise ModelError where the head is broken, tells of tensors that the file does not hold, or of a model
    larger than they are."""
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _check(_Head(content))
    except (OSError, ValueError, struct.error) as error:
        raise ModelError(f"{file} cannot be read as a GGUF model: {error}") from error


def _check(head: _Head) -> None:
    if head.bytes(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    if (version := head.number("I")) not in VERSIONS:
        raise ValueError(f"it says version {version}, and versions 2 and 3 are known")
    tensors, settings = head.count(least=24), head.count(least=13)
    known: dict[str, Any] = {}
    for _ in range(settings):
        name = head.text()
        if name in known:
            raise ValueError(f"it has the setting {name!r} twice")
        known[name] = head.value(head.number("I"))
    places = [head.tensor() for _ in range(tensors)]
    alignment = known.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"it says that tensors are aligned to {alignment!r} bytes")
    start = -(-head.at // alignment) * alignment
    for name, offset, size in places:
        if start + offset + size > head.size:
            raise ValueError(f"the tensor {name!r} ends behind the end of the file")
    if len({name for name, _, _ in places}) < len(places):
        raise ValueError("two tensors have one name")
    _proportionate(known, tensors, head.widest)


def _proportionate(known: dict[str, Any], tensors: int, widest: int) -> None:
    """Raise ValueError where the settings tell of more layers or wider ones than the tensors make."""
    kind = known.get("general.architecture")
    for name in ("block_count", *SIZES):
        told, most = known.get(f"{kind}.{name}", 0), tensors if name == "block_count" else widest
        if isinstance(told, int | float) and not 0 <= told <= most:
            raise ValueError(f"{kind}.{name} is {told}, and its tensors are for {most} at most")


class _Head:
    """Values one after the other. What would lie behind the end of the file is a ValueError."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.size, self.at, self.widest = content, len(content), 0, 0

    def bytes(self, count: int) -> bytes:
        end = self.at + count
        if end > self.size:
            raise ValueError(f"it ends at byte {self.size:,}, inside its head")
        found, self.at = self.content[self.at : end], end
        return found

    def number(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self.bytes(struct.calcsize(f"<{kind}")))[0]

    def count(self, *, least: int) -> int:
        """How many things follow, each of at least so many bytes."""
        found: int = self.number("Q")
        if found * least > self.size - self.at:
            raise ValueError(f"it tells of {found:,} things at byte {self.at:,}, which it has no room for")
        return found

    def text(self) -> str:
        return self.bytes(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind: int, *, depth: int = 0) -> Any:
        """A setting; of a list only that it is one."""
        if kind == TEXT:
            return self.text()
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind != LIST or depth == DEEPEST:
            raise ValueError(f"it has a setting of the unknown kind {kind} at byte {self.at:,}")
        inner: int = self.number("I")
        if inner in SCALARS:
            width = struct.calcsize(f"<{SCALARS[inner]}")
            items = self.count(least=width)
            self.at += items * width
        else:
            for _ in range(self.count(least=8)):
                self.value(inner, depth=depth + 1)
        return []

    def tensor(self) -> tuple[str, int, int]:
        """Name, offset and bytes of a tensor."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        name, dimensions = self.text(), self.number("I")
        if dimensions > DIMENSIONS:
            raise ValueError(f"the tensor {name!r} has {dimensions:,} dimensions")
        shape = [self.number("Q") for _ in range(dimensions)]
        kind, offset = self.number("I"), self.number("Q")
        block, width = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        if prod(shape) % block:
            raise ValueError(f"the tensor {name!r} is not made of whole blocks of {block}")
        self.widest = max([self.widest, *shape])
        return name, offset, prod(shape) // block * width
