"""Tokens on disk: written in chunks by all cores, read where they lie.

A chunk is a directory of flat arrays. It is there whole or not at all, so that work that was interrupted goes
on with the first chunk that is missing, and it depends on nothing but its own examples.
"""

from __future__ import annotations

import json
import os
import shutil
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np

from turnsmith.data.archive import Archive
from turnsmith.data.prepare import Terms, rendered
from turnsmith.data.processes import in_order, usable_cores
from turnsmith.data.render import Renderer
from turnsmith.errors import StorageError
from turnsmith.shelf import put, writing
from turnsmith.types import Rendered, Tokens, is_list

CHUNK = 4096  # examples
OPEN = 16  # chunks that are mapped at a time: mapped pages count as memory of the process
RUN = np.dtype([("tokens", np.int32), ("turn", np.int32), ("weight", np.float32)])  # alike in turn and weight
ENDS = np.dtype([("ids", np.int64), ("runs", np.int64), ("trained", np.int64)])  # where a sequence ends
PLACE = np.dtype([("sequences", np.int64), ("head", np.int64)])  # where an example ends


@dataclass(frozen=True, slots=True)
class Written:
    """What came of writing. kept: examples in each chunk. counts: what was cut or dropped, by reason."""

    kept: tuple[int, ...]
    counts: Mapping[str, int]


def write(
    directory: Path,
    examples: Archive,
    renderer: Renderer,
    terms: Terms,
    *,
    size: int = CHUNK,
    processes: int | None = None,
) -> Written:
    """Render the examples into `directory`, going on where an earlier attempt ended.

    size: examples of a chunk. processes: as many as there are cores, unless said; 1 is this one. Neither the
    bytes nor the first error depend on how many there are.
    """
    count = -(-len(examples) // size)
    work = _Chunks(directory, examples, renderer, terms, size)
    missing = [number for number in range(count) if not work.path(number).is_dir()]
    cores = max(1, int(usable_cores())) if processes is None else processes
    for _ in in_order(work, missing, cores) if cores > 1 else map(work, missing):
        pass
    for left in directory.glob("*.partial"):
        shutil.rmtree(left, ignore_errors=True)
    said = [json.loads((work.path(number) / "said.json").read_text("utf-8")) for number in range(count)]
    counts: Counter[str] = Counter()
    for one in said:
        counts.update(one["counts"])
    return Written(tuple(one["kept"] for one in said), counts)


@dataclass(frozen=True, slots=True)
class _Chunks:
    """Writes one chunk by its number, in whatever process."""

    directory: Path
    examples: Archive
    renderer: Renderer
    terms: Terms
    size: int

    def path(self, number: int) -> Path:
        return self.directory / f"{number:06}"

    def __call__(self, number: int) -> None:
        made = _Arrays()
        counts: Counter[str] = Counter()
        own = self.examples.between(number * self.size, (number + 1) * self.size)
        for example in rendered(own, self.renderer, self.terms, counts):
            made.add(example)
        aside = self.directory / f"{number:06}.{os.getpid()}.partial"
        shutil.rmtree(aside, ignore_errors=True)
        with writing(aside):
            aside.mkdir()
            for name, values in made.arrays().items():
                np.save(aside / f"{name}.npy", values)
            said = {"kept": len(made.places), "counts": counts}
            (aside / "said.json").write_text(json.dumps(said), "utf-8")
            put(aside, self.path(number))


@dataclass(slots=True)
class _Arrays:
    """The arrays of a chunk while it grows."""

    sequences: list[Tokens] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    heads: bytearray = field(default_factory=bytearray)

    def add(self, example: Rendered) -> None:
        for ones in example.parts.values():
            if any(tokens.extras or tokens.targets is not tokens.inputs for tokens in ones):
                raise ValueError("only tokens as they are rendered can be stored, without extras or a view")
            self.sequences += ones
        sizes = {part: len(ones) for part, ones in example.parts.items()}
        self.heads += json.dumps([example.id, sizes, dict(example.values)]).encode()
        self.places.append((len(self.sequences), len(self.heads)))

    def arrays(self) -> dict[str, np.ndarray]:
        none = np.empty(0, np.int32)
        ids, turns = (
            np.concatenate([none, *(getattr(one, name) for one in self.sequences)])
            for name in ("inputs", "turns")
        )
        weights = np.concatenate([none.astype(np.float32), *(one.weights for one in self.sequences)])
        ends = np.zeros(len(self.sequences), ENDS)
        ends["ids"] = np.cumsum([len(one) for one in self.sequences])
        change = (weights[1:] != weights[:-1]) | (turns[1:] != turns[:-1])
        change[ends["ids"][:-1] - 1] = True  # a run ends with its sequence
        starts = np.flatnonzero(np.concatenate([[len(ids) > 0], change]))
        runs = np.empty(len(starts), RUN)
        runs["tokens"] = np.diff(starts, append=len(ids))
        runs["turn"], runs["weight"] = turns[starts], weights[starts]
        ends["runs"] = np.searchsorted(starts, ends["ids"])
        ends["trained"] = [np.count_nonzero(one.weights) for one in self.sequences]
        places, heads = np.array(self.places, PLACE), np.frombuffer(bytes(self.heads), np.uint8)
        return {"ids": ids, "runs": runs, "ends": ends, "places": places, "heads": heads}


class Store(Sequence[Rendered]):
    """What `write` wrote: examples that are read when they are asked for."""

    def __init__(self, directory: Path, kept: Sequence[int]) -> None:
        self.directory = directory
        self._ends = list(accumulate(kept))
        self._chunk = lru_cache(maxsize=OPEN)(self._mapped)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, at: int) -> Rendered: ...
    @overload
    def __getitem__(self, at: slice) -> list[Rendered]: ...
    def __getitem__(self, at: int | slice) -> Rendered | list[Rendered]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        place = at + len(self) if at < 0 else at
        if not 0 <= place < len(self):
            raise IndexError(f"example {at} of {len(self)}")
        number = bisect_right(self._ends, place)
        return _example(self._chunk(number), place - (self._ends[number - 1] if number else 0))

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of each example, and those of them that are learnt; the tokens themselves are not read."""
        found = [_sizes(self._chunk(number)) for number in range(len(self._ends))]
        tokens, trained = zip(*found, strict=True)
        return np.concatenate(tokens), np.concatenate(trained)

    def _mapped(self, number: int) -> dict[str, np.ndarray]:
        where = self.directory / f"{number:06}"
        try:
            names = ("ids", "runs", "ends", "places", "heads")
            return {name: np.load(where / f"{name}.npy", mmap_mode="r") for name in names}
        except (OSError, ValueError) as error:
            raise StorageError(f"tokens on the shelf are broken ({error}): remove {self.directory}") from None


def sizes_of(examples: Sequence[Rendered]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of each example in all its parts, and those of them that are learnt."""
    if isinstance(examples, Store):
        return examples.sizes()
    sequences = [[one for ones in example.parts.values() for one in ones] for example in examples]
    trained = (sum(int(np.count_nonzero(one.weights)) for one in ones) for ones in sequences)
    return np.array([sum(map(len, ones)) for ones in sequences]), np.array(list(trained))


def _example(chunk: Mapping[str, np.ndarray], place: int) -> Rendered:
    first = chunk["places"][place - 1] if place else np.zeros((), PLACE)
    last = chunk["places"][place]
    id, sizes, numbers = json.loads(chunk["heads"][first["head"] : last["head"]].tobytes())
    values = {name: tuple(one) if is_list(one) else one for name, one in numbers.items()}
    sequences = _sequences(chunk, int(first["sequences"]), int(last["sequences"]))
    return Rendered(id, {part: tuple(next(sequences) for _ in range(n)) for part, n in sizes.items()}, values)


def _sequences(chunk: Mapping[str, np.ndarray], first: int, last: int) -> Iterator[Tokens]:
    before = chunk["ends"][first - 1] if first else np.zeros((), ENDS)
    for end in chunk["ends"][first:last]:
        ids: Any = np.array(chunk["ids"][before["ids"] : end["ids"]])
        runs = chunk["runs"][before["runs"] : end["runs"]]
        weights: Any = np.repeat(runs["weight"], runs["tokens"])
        turns: Any = np.repeat(runs["turn"], runs["tokens"])
        yield Tokens(ids, ids, weights, turns)
        before = end


def _sizes(chunk: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.concatenate([[0], chunk["places"]["sequences"]])
    tokens = np.concatenate([[0], chunk["ends"]["ids"]])[starts]
    trained = np.concatenate([[0], np.cumsum(chunk["ends"]["trained"])])[starts]
    return np.diff(tokens).astype(np.int32), np.diff(trained).astype(np.int32)
