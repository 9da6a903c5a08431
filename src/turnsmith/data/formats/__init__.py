"""Rows to examples. A format is a function of one row; which one a file has is guessed from its columns, and
said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from turnsmith.data import read
from turnsmith.data.distinct import Distinct
from turnsmith.data.formats.guessing import Guess, guess
from turnsmith.data.messages import dump, load
from turnsmith.data.quarantine import Id, Place, Quarantine, refuse
from turnsmith.errors import DataError
from turnsmith.registry import Registry, format
from turnsmith.types import Example, Json, Part, Value, is_list, is_object

GUESSED = 1000  # rows that the guess of a format looks at
Row = Mapping[str, Any]


class Skip(Exception):
    """Raised by a format for a row that is sound but of no use; counted under its text."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a format made of a row. used: the columns that are in it; the others become meta."""

    parts: Mapping[str, Part]
    used: tuple[str, ...]
    meta: Mapping[str, Json] = field(default_factory=dict[str, Json])
    values: Mapping[str, Value] = field(default_factory=dict[str, Value])


def to_row(example: Example) -> dict[str, Json]:
    """An example as JSON that the `turnsmith` format reads back."""
    parts: dict[str, Json] = {}
    for name, part in example.parts.items():
        parts[name] = [dump(one) for one in part] if isinstance(part, tuple) else dump(part)
    values = {name: list(one) if isinstance(one, tuple) else one for name, one in example.values.items()}
    return {"id": example.id, "parts": parts, "values": values, "meta": dict(example.meta)}


def _whole(example: Example) -> tuple[dict[str, Json], tuple[str, ...]]:
    return to_row(example), ()


@format("turnsmith", columns=(("parts", "meta"),), writer=_whole)
def turnsmith(row: Row) -> Parsed:
    """What `to_row` writes: examples as they are, nothing lost."""
    if not is_object(row["meta"]):
        raise DataError(f"`meta` must be an object, not {row['meta']!r:.60}")
    parts = {name: load(part) for name, part in row["parts"].items()}
    values = {str(name): _value(given) for name, given in row.get("values", {}).items()}
    return Parsed(parts, ("parts", "values", "meta"), row["meta"], values)


def _value(given: Any) -> Value:
    return tuple(map(float, given)) if is_list(given) else float(given)


def from_file(
    path: Path, name: str, registry: Registry, bad: Quarantine | None = None
) -> tuple[list[Example], str, Counter[str]]:
    """The examples of a file or folder, the name of its format, guessed where `name` is `auto`, and how many
    rows were skipped for which reason. bad: takes the bad rows; without it, the first one is an error."""
    skipped: Counter[str] = Counter()
    guessed, found = stream(path, name, registry, skipped, bad)
    return list(found), guessed.name, skipped


def stream(
    path: Path, name: str, registry: Registry, skipped: Counter[str], bad: Quarantine | None = None
) -> tuple[Guess, Iterator[Example]]:
    """The format of a file or folder, guessed where `name` is `auto`, and its examples, one at a time.
    skipped and bad: as of `examples`."""
    rows = read.rows(path, bad)
    guessed = Guess(name, (), "as was said")
    if name == "auto":
        first = list(islice(rows, GUESSED))
        shown = [row for _, row in first]
        guessed = guess(shown if bad is None else _alike(shown), registry.entries("format"))
        rows = chain(first, rows)
    return guessed, examples(rows, guessed.name, registry, str(path), skipped, bad)


def _alike(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows with all columns that more than half of the rows have; the others are bad, or have more."""
    counts = Counter(column for row in rows for column in row)
    common = {column for column, count in counts.items() if 2 * count > len(rows)}
    return [row for row in rows if common <= set(row)] or rows


def examples(
    rows: Iterable[tuple[str, Row]],
    name: str,
    registry: Registry,
    where: str,
    skipped: Counter[str],
    bad: Quarantine | None = None,
) -> Iterator[Example]:
    """The examples of rows, one at a time. What is skipped is counted into `skipped` by its reason.

    where: what an error calls the rows that do not know their own place. A row that does not keep to the
    format, or has the id of an earlier one, goes to `bad`; without it DataError names file, line and row.
    """
    parse: Callable[[Row], Parsed] = registry.function("format", name)
    seen = Distinct()
    for id, row in rows:
        try:
            parsed = parse(row)
            if not seen.add(id):
                raise DataError(f"an earlier row has the id {str(id)!r} too; ids must differ")
        except Skip as reason:
            skipped[str(reason)] += 1
            continue
        except DataError as error:
            refuse(str(error), _place(id, where), row, bad, id)
            continue
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            there = f"; its columns are {', '.join(row)}" if isinstance(error, KeyError) else ""
            reason = f"is no {name} row ({type(error).__name__}: {error}){there}"
            refuse(reason, _place(id, where), row, bad, id)
            continue
        rest = {key: value for key, value in row.items() if key not in parsed.used}
        yield Example(parsed.parts, parsed.values, {**rest, **parsed.meta, "id": str(id)})


def _place(id: str, where: str) -> str | Place:
    return id.place or where if isinstance(id, Id) else where
