"""Rendered examples to micro-batches: one packed row of segments that share their prefixes, or padded
rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from turnsmith.errors import DataError
from turnsmith.types import Batch, Path, Rendered, Tokens

if TYPE_CHECKING:
    from turnsmith.models.forest import Forest
    from turnsmith.types import Ints

Layout: TypeAlias = Callable[[Sequence[Rendered]], Batch]
LEAST_SHARED = 16  # tokens: below it, splitting a segment costs more than computing its tokens again


def micro_batches(window: Sequence[Rendered], row: int) -> Iterator[list[Rendered]]:
    """A window cut into runs of whole examples of at most `row` tokens; a longer example stands alone."""
    run: list[Rendered] = []
    filled = 0
    for example in window:
        tokens = size(example)
        if run and filled + tokens > row:
            yield run
            run, filled = [], 0
        run.append(example)
        filled += tokens
    if run:
        yield run


def size(example: Rendered) -> int:
    """Tokens of all parts, nothing shared."""
    return sum(len(tokens) for part in example.parts.values() for tokens in part)


def pack(examples: Sequence[Rendered], *, least: int = LEAST_SHARED) -> Batch:
    """One row of segments; prefixes of at least `least` tokens that sequences share are laid down once."""
    from turnsmith.models.forest import Forest

    paths, sequences = _paths(examples)
    tree = _Tree([tokens.inputs for tokens in sequences], least)
    forest = Forest(tuple(tree.bounds), tuple(tree.parent))
    positions = np.concatenate([np.arange(len(s)) for s in sequences])
    inputs = np.zeros(tree.bounds[-1], np.int64)
    places = np.zeros(tree.bounds[-1], np.int64)
    flat = np.concatenate(tree.routes)
    inputs[flat] = np.concatenate([tokens.inputs for tokens in sequences])
    places[flat] = positions
    return _batch(examples, paths, sequences, tree.routes, inputs[None], places[None], forest, None)


def pad(examples: Sequence[Rendered]) -> Batch:
    """One row for each sequence, padded on the right: for models that cannot attend over a forest."""
    paths, sequences = _paths(examples)
    width = max(len(tokens) for tokens in sequences)
    inputs = np.zeros((len(sequences), width), np.int64)
    mask = np.zeros((len(sequences), width), np.int64)
    for row, tokens in enumerate(sequences):
        inputs[row, : len(tokens)] = tokens.inputs
        mask[row, : len(tokens)] = 1
    routes = [row * width + np.arange(len(tokens)) for row, tokens in enumerate(sequences)]
    positions = np.broadcast_to(np.arange(width), inputs.shape).copy()
    return _batch(examples, paths, sequences, routes, inputs, positions, None, mask)


def _paths(examples: Sequence[Rendered]) -> tuple[list[Path], list[Tokens]]:
    paths, sequences = [], []
    for owner, example in enumerate(examples):
        for part, conversations in example.parts.items():
            for number, tokens in enumerate(conversations):
                paths.append(Path(owner, part, number))
                sequences.append(tokens)
    return paths, sequences


class _Tree:
    """The prefix tree of sequences of ids, laid out in one row.

    bounds, parent: the segments. routes: for each sequence, the row index of each of its tokens.
    """

    def __init__(self, sequences: Sequence[Ints], least: int) -> None:
        self.sequences = sequences
        self.least = least
        self.bounds = [0]
        self.parent: list[int] = []
        self.routes: list[np.ndarray] = [np.zeros(len(s), np.int64) for s in sequences]
        self._grow(list(range(len(sequences))), 0, -1)

    def _grow(self, group: Sequence[int], start: int, parent: int) -> None:
        """Lay down what the sequences of `group`, alike up to `start`, have after it."""
        for kin in self._kin(group, start):
            stop = self._common(kin, start) if len(kin) > 1 else len(self.sequences[kin[0]])
            segment = self._lay(kin, start, stop, parent)
            if len(kin) > 1:
                self._grow(kin, stop, segment)

    def _kin(self, group: Sequence[int], start: int) -> list[list[int]]:
        """`group` by the next `least` tokens; who has fewer left stands alone, who has none is left out."""
        kin: dict[bytes, list[int]] = {}
        for index in group:
            ahead = self.sequences[index][start : start + self.least]
            if len(ahead):
                key = ahead.tobytes() if len(ahead) == self.least else b"alone %d" % index
                kin.setdefault(key, []).append(index)
        return list(kin.values())

    def _common(self, group: Sequence[int], start: int) -> int:
        shortest = min(len(self.sequences[index]) for index in group)
        heads = np.stack([self.sequences[index][start:shortest] for index in group])
        differ = np.flatnonzero((heads != heads[0]).any(axis=0))
        return start + int(differ[0]) if len(differ) else shortest

    def _lay(self, group: Sequence[int], start: int, stop: int, parent: int) -> int:
        offset = self.bounds[-1]
        for index in group:
            self.routes[index][start:stop] = np.arange(offset, offset + stop - start)
        self.bounds.append(offset + stop - start)
        self.parent.append(parent)
        return len(self.parent) - 1


def _values(examples: Sequence[Rendered], key: str) -> list[float]:
    for example in examples:
        if key not in example.values:
            raise DataError(f"example {example.id!r} has no value {key!r}, which other examples have")
    return [example.values[key] for example in examples]


def _batch(
    examples: Sequence[Rendered],
    paths: Sequence[Path],
    sequences: Sequence[Tokens],
    routes: Sequence[np.ndarray],
    inputs: np.ndarray,
    positions: np.ndarray,
    forest: Forest | None,
    mask: np.ndarray | None,
) -> Batch:
    """Gather what is trained. A distinct trained token is a (state, target) pair."""
    import torch

    trained = [np.flatnonzero(tokens.weights) for tokens in sequences]
    source = np.concatenate([route[at - 1] for route, at in zip(routes, trained, strict=True)])
    targets = np.concatenate([t.targets[at] for t, at in zip(sequences, trained, strict=True)]).astype(
        np.int64
    )
    pairs, entry = np.unique(np.stack([source, targets]), axis=1, return_inverse=True)

    def gather(values: Sequence[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([v[at] for v, at in zip(values, trained, strict=True)]))

    names = sequences[0].extras
    return Batch(
        inputs=torch.from_numpy(inputs),
        positions=torch.from_numpy(positions),
        forest=forest,
        mask=None if mask is None else torch.from_numpy(mask),
        source=torch.from_numpy(pairs[0]),
        targets=torch.from_numpy(pairs[1]),
        entry=torch.from_numpy(entry.reshape(-1)),
        weights=gather([tokens.weights for tokens in sequences]),
        turns=gather([tokens.turns for tokens in sequences]).long(),
        path=torch.repeat_interleave(torch.arange(len(paths)), torch.tensor([len(at) for at in trained])),
        reads=torch.tensor([int(route[-1]) for route in routes]),
        paths=tuple(paths),
        ids=tuple(example.id for example in examples),
        values={key: torch.tensor(_values(examples, key)) for key in examples[0].values},
        extras={name: gather([tokens.extras[name] for tokens in sequences]) for name in names},
    )
