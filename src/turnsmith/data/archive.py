"""Examples in files, one a line, of which each can be read for itself."""

from __future__ import annotations

import json
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, overload

from turnsmith.data import formats
from turnsmith.errors import StorageError
from turnsmith.shelf import writing
from turnsmith.types import Example

if TYPE_CHECKING:
    import numpy as np


def write(file: Path, examples: Iterable[Example]) -> Archive:
    """Write the examples, of which one at a time is held, with the index of their lines beside them."""
    lines = (json.dumps(formats.to_row(one), ensure_ascii=False).encode() + b"\n" for one in examples)
    return write_lines(file, lines)


def write_lines(file: Path, lines: Iterable[bytes]) -> Archive:
    """The same for lines as they stand in another archive. Aside, then renamed: a file is whole."""
    import numpy as np

    starts = array("q", [0])
    aside = file.with_name(f"{file.name}.partial")
    with writing(file):
        with aside.open("wb") as opened:
            for line in lines:
                opened.write(line)
                starts.append(starts[-1] + len(line))
            opened.flush()
            os.fsync(opened.fileno())
        np.save(index_of(file), np.frombuffer(starts, np.int64))
        aside.replace(file)
    return Archive([file])


def index_of(file: Path) -> Path:
    """Where the offsets of the lines of `file` are."""
    return file.with_suffix(".index.npy")


class Archive(Sequence[Example]):
    """The examples of some files, one behind the other. What is held is where they are; each is read from its
    file whenever it is asked for. Can be handed to another process."""

    def __init__(self, files: Sequence[Path]) -> None:
        import numpy as np

        self.files = tuple(files)
        try:
            self._starts: list[np.ndarray] = [np.load(index_of(file), mmap_mode="r") for file in self.files]
        except (OSError, ValueError) as error:
            raise StorageError(f"data on the shelf are broken ({error}): {_WAY_OUT}") from None
        self._ends = list(accumulate((len(starts) - 1 for starts in self._starts), initial=0))[1:]

    def __reduce__(self) -> tuple[type[Archive], tuple[tuple[Path, ...]]]:
        return Archive, (self.files,)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, at: int) -> Example: ...
    @overload
    def __getitem__(self, at: slice) -> list[Example]: ...
    def __getitem__(self, at: int | slice) -> Example | list[Example]:
        if isinstance(at, slice):
            first, last, step = at.indices(len(self))
            return (
                list(self.between(first, last)) if step == 1 else [self[i] for i in range(first, last, step)]
            )
        place = at + len(self) if at < 0 else at
        if not 0 <= place < len(self):
            raise IndexError(f"example {at} of {len(self)}")
        return next(self.between(place, place + 1))

    def __iter__(self) -> Iterator[Example]:
        return self.between(0, len(self))

    def between(self, first: int, last: int) -> Iterator[Example]:
        """Those from `first` up to, not including, `last`, read in one go."""
        return map(_example, self.lines(first, last))

    def lines(self, first: int, last: int) -> Iterator[bytes]:
        """The same as they stand in the files."""
        number = bisect_right(self._ends, first)
        while first < min(last, len(self)):
            file, starts = self.files[number], self._starts[number]
            before = self._ends[number] - (len(starts) - 1)
            with file.open("rb") as opened:
                opened.seek(int(starts[first - before]))
                for _ in range(first, min(last, self._ends[number])):
                    yield opened.readline()
            first = self._ends[number]
            number += 1


_WAY_OUT = "remove the artefact's directory and run again"


def _example(line: bytes) -> Example:
    try:
        row = json.loads(line)
        parsed = formats.turnsmith(row)
        id = {"id": str(row["id"])}
        return Example(parsed.parts, parsed.values, {**id, **parsed.meta, **id})
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"data on the shelf are broken ({error}; {line!r:.60}): {_WAY_OUT}") from None
