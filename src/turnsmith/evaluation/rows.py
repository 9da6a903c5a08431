"""Rows of the files that tasks measure on, with their places for errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from turnsmith.data import read
from turnsmith.data.quarantine import Id
from turnsmith.errors import DataError, UsageError

Row = Mapping[str, Any]


def rows(file: str, count: int | None = None) -> list[tuple[str, Row]]:
    """(place, row) of the first `count` rows of a data file, of all where None.

    place: the file and the line or row, for errors.
    """
    found = ((str(id.place if isinstance(id, Id) else id), row) for id, row in read.rows(Path(file)))
    return first(found, count)


def first(found: Iterator[tuple[str, Row]], count: int | None) -> list[tuple[str, Row]]:
    """The first `count` of them. Raises UsageError where that is less than one."""
    if count is not None and count < 1:
        raise UsageError(f"count is {count}: a task needs at least one item")
    return list(islice(found, count))


def text(row: Row, key: str, place: str) -> str:
    """What the row says under `key`. Raises DataError unless it is a text that is not empty."""
    found = row.get(key)
    if not isinstance(found, str) or not found.strip():
        raise DataError(f"{place}: {key!r} is {found!r:.60}, and must be a text that is not empty")
    return found
