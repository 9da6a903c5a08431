"""Which format rows are in: told by their columns, and said with the evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnsmith.errors import DataError
from turnsmith.registry import Entry
from turnsmith.types import is_list, is_object


@dataclass(frozen=True, slots=True)
class Guess:
    """A format that was guessed. columns: what decided; why: a sentence that says so, with what else fits."""

    name: str
    columns: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class _Fit:
    """A format that fits: by which columns, and by what the texts in some of them are like."""

    name: str
    columns: tuple[str, ...]
    marks: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.columns) + len(self.marks)

    def __str__(self) -> str:
        columns = f"{'columns' if len(self.columns) > 1 else 'column'} {_listed(self.columns)}"
        return f"{columns}, with {_listed(self.marks)} in its form" if self.marks else columns


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def guess(rows: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> Guess:
    """The format whose columns all rows have; the more it asks of them, the better it fits.

    Raises DataError, naming the columns found, where none fits or two fit equally well, and naming the first
    row that differs where the rows before it fit.
    """
    fits = _fits(rows, entries)
    known = ", ".join(entry.name for entry in entries)
    if not fits:
        common = set(rows[0]).intersection(*rows[1:])
        columns = ", ".join(sorted(common)) or "(none in common)"
        raise DataError(
            f"columns {columns}: no known format has them{_first_other(rows, entries)}. Say which: {known}"
        )
    best = [fit for fit in fits if fit.size == fits[0].size]
    if len(best) > 1:
        found = _listed([f"{fit.name} (by {fit})" for fit in best])
        raise DataError(f"columns {', '.join(sorted(rows[0]))}: {found} fit equally well. Say which: {known}")
    others = f"; {_listed([fit.name for fit in fits[1:]])} would need less" if fits[1:] else ""
    number = "the row has" if len(rows) == 1 else f"all {len(rows):,} rows that were looked at have"
    return Guess(best[0].name, best[0].columns, f"{number} the {best[0]}{others}")


def _fits(rows: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> list[_Fit]:
    """The formats that fit, the best first."""
    common = set(rows[0]).intersection(*rows[1:])
    found: list[_Fit] = []
    for entry in entries:
        columns: Any = entry.traits.get("columns", ())
        sets = [tuple(map(str, ones)) for ones in columns if is_list(ones) or isinstance(ones, tuple)]
        there = [ones for ones in sets if set(ones) <= common]
        marks: Any = entry.traits.get("marks", {})
        if there and is_object(marks) and all(_marked(rows, *mark) for mark in marks.items()):
            found.append(_Fit(entry.name, max(there, key=len), tuple(marks)))
    return sorted(found, key=lambda fit: -fit.size)


def _marked(rows: Sequence[Mapping[str, Any]], column: str, mark: str) -> bool:
    """Whether the text of a column begins as the format wants it, in all rows."""
    return all(re.match(mark, str(row.get(column, ""))) for row in rows)


def _first_other(rows: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> str:
    """Which row is the first with which the rows before it have no format in common; empty where none is."""
    common = set(rows[0])
    fitting = _fits([dict.fromkeys(common)], entries)
    for number, row in enumerate(rows[1:], start=2):
        common &= set(row)
        still = _fits([dict.fromkeys(common)], entries)
        if fitting and not still:
            columns = ", ".join(sorted(row)) or "none"
            return (
                f"; row {number} is the first that differs: it has {columns}, and those before {fitting[0]}"
            )
        fitting = still
    return ""
