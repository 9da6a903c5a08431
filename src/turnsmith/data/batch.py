"""Rendered examples to micro-batches: one packed row of segments that share their prefixes, or padded
rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from turnsmith.data.tree import Kinship, grow
from turnsmith.errors import DataError
from turnsmith.types import Batch, Path, Rendered, Tokens, Value

if TYPE_CHECKING:
    from turnsmith.models.forest import Forest
    from turnsmith.registry import Per
    from turnsmith.types import Ints

Layout: TypeAlias = Callable[[Sequence[Rendered]], Batch]
LEAST_SHARED = 16  # tokens: below it, splitting a segment costs more than computing its tokens again


def pack(examples: Sequence[Rendered], *, least: int = LEAST_SHARED) -> Batch:
    """One row of segments; prefixes of at least `least` tokens that sequences share are laid down once. What
    forgets shares nothing: each sequence forgets something else."""
    from turnsmith.models.forest import Forest

    paths, sequences = _paths(examples)
    forgets = tuple(tokens.forgets for tokens in sequences)
    if not any(forgets):
        forgets = ()
    tree = grow([tokens.inputs for tokens in sequences], sum(map(len, sequences)) + 1 if forgets else least)
    positions = np.concatenate([np.arange(len(s)) for s in sequences])
    inputs = np.zeros(tree.bounds[-1], np.int64)
    places = np.zeros(tree.bounds[-1], np.int64)
    flat = np.concatenate(tree.routes)
    inputs[flat] = np.concatenate([tokens.inputs for tokens in sequences])
    places[flat] = positions
    forest = Forest(tree.bounds, tree.parent, _by_segment(tree.routes, tree.bounds, forgets))
    return _batch(examples, paths, sequences, tree.routes, inputs[None], places[None], forest, None)


def pad(examples: Sequence[Rendered]) -> Batch:
    """One row for each sequence, padded on the right: for models that cannot attend over a forest."""
    paths, sequences = _paths(examples)
    if any(tokens.forgets for tokens in sequences):
        raise DataError(
            "this model cannot be packed, so it cannot forget single tokens: train it without the view"
        )
    width = max(len(tokens) for tokens in sequences)
    inputs = np.zeros((len(sequences), width), np.int64)
    mask = np.zeros((len(sequences), width), np.int64)
    for row, tokens in enumerate(sequences):
        inputs[row, : len(tokens)] = tokens.inputs
        mask[row, : len(tokens)] = 1
    routes = [row * width + np.arange(len(tokens)) for row, tokens in enumerate(sequences)]
    positions = np.broadcast_to(np.arange(width), inputs.shape).copy()
    return _batch(examples, paths, sequences, routes, inputs, positions, None, mask)


def _by_segment(
    routes: Sequence[np.ndarray], bounds: Sequence[int], forgets: Sequence[tuple[float, int] | None]
) -> tuple[tuple[float, int] | None, ...]:
    """What each segment forgets, where each sequence (routes: the places of its tokens) is one of its own."""
    if not forgets:
        return ()
    places = {int(route[0]): one for route, one in zip(routes, forgets, strict=True)}
    return tuple(places[start] for start in bounds[:-1])


def in_step(layout: Layout, names: Sequence[str]) -> Layout:
    """The layout, with the same examples beside it as each of the models `names` reads them.

    Raises DataError where an example was not rendered for them.
    """

    def lay_out(examples: Sequence[Rendered]) -> Batch:
        beside = {name: layout([_of(example, name) for example in examples]) for name in names}
        return replace(layout(examples), beside=beside)

    return lay_out if names else layout


def _of(example: Rendered, name: str) -> Rendered:
    """The example in another model's form."""
    every = [tokens for ones in example.parts.values() for tokens in ones]
    if any(name not in tokens.beside for tokens in every):
        raise DataError(
            f"example {example.id!r} is not there in the form that {name!r} reads, whose chat template is "
            "another one: what is scored must be rendered for this combination of models, and whole"
        )
    parts = {part: tuple(tokens.beside[name] for tokens in ones) for part, ones in example.parts.items()}
    return replace(example, parts=parts)


def micro_batches(examples: Iterable[Rendered], row: int) -> Iterator[list[Rendered]]:
    """Runs of whole examples in the order given, of at most `row` tokens with nothing shared; a longer
    example stands alone. For what is read off example by example, and what is too much to be held at once."""
    run: list[Rendered] = []
    filled = 0
    for example in examples:
        tokens = sum(map(len, _inputs(example)))
        if run and filled + tokens > row:
            yield run
            run, filled = [], 0
        run.append(example)
        filled += tokens
    if run:
        yield run


def fill_rows(
    window: Sequence[Rendered], row: int, *, layout: Layout = pack, per: Per = "example"
) -> list[list[Rendered]]:
    """A window dealt out to micro-batches of at most `row` token positions, each to be laid out by `layout`.

    An example stays whole, in a longer row of its own if need be. Only where the loss is a sum over tokens
    (`per`) is one that takes more than a row cut: each of its sequences becomes an example of its own, and
    rows repeat the prefix that they share.
    """
    pieces = [
        piece for example in window for piece in (cut(example, row, layout) if per == "token" else [example])
    ]
    return [[pieces[index] for index in run] for run in deal(pieces, row, layout)]


def deal(examples: Sequence[Rendered], row: int, layout: Layout = pack) -> list[list[int]]:
    """The indices of the examples of each micro-batch, every example whole.

    Depends on nothing but the examples. layout: `pad`, or one that lays down shared prefixes once.
    """
    return _in_padded_rows(examples, row) if layout is pad else _in_packed_rows(examples, row)


def slots(example: Rendered, layout: Layout = pack) -> int:
    """Token positions that the example takes when it is laid out alone."""
    sequences = _inputs(example)
    if layout is pad:
        return len(sequences) * max(map(len, sequences))
    return Kinship(sequences, LEAST_SHARED).tokens(range(len(sequences)))


def _inputs(example: Rendered) -> list[Ints]:
    return [one.inputs for ones in example.parts.values() for one in ones]


def cut(example: Rendered, row: int, layout: Layout) -> list[Rendered]:
    """The example, or each of its sequences as one of its own where together they take more than a row."""
    if len(_inputs(example)) == 1 or slots(example, layout) <= row:
        return [example]
    return [
        replace(example, parts={part: (one,)}, values=_values_of(example, number))
        for part, ones in example.parts.items()
        for number, one in enumerate(ones)
    ]


def _values_of(example: Rendered, number: int) -> dict[str, Value]:
    """The values of one of its several conversations."""
    values = example.values.items()
    return {name: (one[number],) if isinstance(one, tuple) else one for name, one in values}


@dataclass(frozen=True, slots=True)
class _Row:
    """What is laid down in one row: examples, the places of their sequences, their trees, and the tokens."""

    examples: tuple[int, ...]
    places: tuple[int, ...]
    families: frozenset[int]
    tokens: int

    def joined(self, item: _Row, kinship: Kinship) -> _Row:
        """Both in one row; only trees that both are in can share tokens."""
        places = tuple(sorted(self.places + item.places))
        apart = self.families.isdisjoint(item.families)
        tokens = self.tokens + item.tokens if apart else kinship.tokens(places)
        return _Row(self.examples + item.examples, places, self.families | item.families, tokens)


def _in_packed_rows(examples: Sequence[Rendered], row: int) -> list[list[int]]:
    """Largest first, each into the row to which it adds least, else into a new one."""
    sequences = [_inputs(example) for example in examples]
    kinship = Kinship([one for ones in sequences for one in ones], LEAST_SHARED)
    rank = iter(kinship.rank)
    items: list[_Row] = []
    for index, ones in enumerate(sequences):
        places = tuple(sorted(next(rank) for _ in ones))
        families = frozenset(kinship.family[place] for place in places)
        items.append(_Row((index,), places, families, kinship.tokens(places)))
    rows: list[_Row] = []
    for item in sorted(items, key=lambda item: -item.tokens):
        best: tuple[int, int, _Row] | None = None
        for number, one in enumerate(rows):
            both = one.joined(item, kinship)
            added = both.tokens - one.tokens
            if both.tokens <= row and (best is None or added < best[0]):
                best = (added, number, both)
        if best is None:
            rows.append(item)
        else:
            rows[best[1]] = best[2]
    return [sorted(one.examples) for one in rows]


def _in_padded_rows(examples: Sequence[Rendered], row: int) -> list[list[int]]:
    """Longest first, so that neighbours are about as long and little is padded."""
    lengths = [[len(one) for one in _inputs(example)] for example in examples]
    runs: list[list[int]] = []
    width = count = 0
    for index in sorted(range(len(examples)), key=lambda index: -max(lengths[index])):
        if not runs or (count + len(lengths[index])) * width > row:
            runs.append([])
            width, count = max(lengths[index]), 0
        runs[-1].append(index)
        count += len(lengths[index])
    return [sorted(run) for run in runs]


def stretches(examples: Sequence[Rendered], size: int = 64) -> Iterator[list[Rendered]]:
    """The examples in order, `size` at a time: as windows of those that are too many to be held at once."""
    for start in range(0, len(examples), size):
        yield [examples[index] for index in range(start, min(start + size, len(examples)))]


def _paths(examples: Sequence[Rendered]) -> tuple[list[Path], list[Tokens]]:
    paths, sequences = [], []
    for owner, example in enumerate(examples):
        for part, conversations in example.parts.items():
            for number, tokens in enumerate(conversations):
                paths.append(Path(owner, part, number))
                sequences.append(tokens)
    return paths, sequences


def _values(examples: Sequence[Rendered], key: str) -> list[float]:
    found: list[float] = []
    for example in examples:
        if key not in example.values:
            raise DataError(f"example {example.id!r} has no value {key!r}, which other examples have")
        value = example.values[key]
        found += value if isinstance(value, tuple) else [value]
    return found


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
    place = np.concatenate([route[at] for route, at in zip(routes, trained, strict=True)])
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
        place=torch.from_numpy(place),
        weights=gather([tokens.weights for tokens in sequences]),
        turns=gather([tokens.turns for tokens in sequences]).long(),
        path=torch.repeat_interleave(torch.arange(len(paths)), torch.tensor([len(at) for at in trained])),
        reads=torch.tensor([int(route[-1]) for route in routes]),
        paths=tuple(paths),
        ids=tuple(example.id for example in examples),
        values={key: torch.tensor(_values(examples, key)) for key in examples[0].values},
        extras={name: gather([tokens.extras[name] for tokens in sequences]) for name in names},
    )
