"""Rows to files: written aside and renamed, so that a file is there whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, TextIO

from turnsmith.data.lines import GZIP
from turnsmith.data.read import ending
from turnsmith.errors import DataError, UsageError
from turnsmith.shelf import writing
from turnsmith.types import Json

Row = Mapping[str, Json]
TABLES = {
    ".csv": "csv keeps text alone: what is nested stands as JSON text, numbers come back as text",
    ".tsv": "tsv keeps text alone: what is nested stands as JSON text, numbers come back as text",
    ".parquet": "parquet has one type for each column: what differs or is nested stands as JSON text",
}  # what a reader should know of files that are no JSON


def write(rows: Iterable[Row], path: Path) -> int:
    """Write all rows to a file whose ending says how; gives their number. Rows are taken one at a time.

    Raises UsageError where the ending is not one of those that are written, DataError where there is no row,
    StorageError where the disk refuses.
    """
    writer = _writer(path)
    counted = _Counted(rows)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with writing(path):
            with aside.open("wb") as opened:
                writer(counted, opened, path)
            if not counted.count:
                raise DataError(f"there is no row to write to {path}")
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return counted.count


def check(path: Path) -> None:
    """Raises UsageError where a file with this name cannot be written."""
    _writer(path)
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")


class _Counted:
    """Rows that are counted as they are taken."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows, self.count = rows, 0

    def __iter__(self) -> Iterator[Row]:
        for row in self.rows:
            self.count += 1
            yield row


Write = Callable[[Iterable[Row], IO[bytes], Path], None]


def _writer(path: Path) -> Write:
    kinds: dict[str, Write] = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv}
    if not path.name.endswith(GZIP):
        kinds[".parquet"] = _parquet
    if ending(path) not in kinds:
        raise UsageError(
            f"{path}: files of type {''.join(path.suffixes[-2:]) or '(none)'!r} are not written; there is "
            f".jsonl, .json, .csv and .tsv, with {GZIP} after them or not, and .parquet"
        )
    return kinds[ending(path)]


@contextmanager
def _text(opened: IO[bytes], path: Path) -> Generator[TextIO]:
    """A stream of UTF-8, packed where the name says so; the same rows give the same bytes."""
    if not path.name.endswith(GZIP):
        stream = io.TextIOWrapper(opened, "utf-8", newline="", write_through=True)
        yield stream
        stream.flush()
        stream.detach()
        return
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=opened, mtime=0) as packed,
        io.TextIOWrapper(packed, "utf-8", newline="") as stream,
    ):
        yield stream


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)


def _jsonl(rows: Iterable[Row], opened: IO[bytes], path: Path) -> None:
    with _text(opened, path) as out:
        for row in rows:
            out.write(f"{_line(row)}\n")


def _json(rows: Iterable[Row], opened: IO[bytes], path: Path) -> None:
    with _text(opened, path) as out:
        start = "[\n"
        for row in rows:
            out.write(f"{start}{_line(row)}")
            start = ",\n"
        out.write("\n]\n")


def _csv(rows: Iterable[Row], opened: IO[bytes], path: Path) -> None:
    with _spooled(rows) as (columns, kept), _text(opened, path) as out:
        table = csv.writer(out, delimiter="\t" if ending(path) == ".tsv" else ",", lineterminator="\n")
        table.writerow(columns)
        for row in kept():
            table.writerow([cell(row.get(name)) for name in columns])


def _parquet(rows: Iterable[Row], opened: IO[bytes], path: Path) -> None:
    from turnsmith.data import parquet

    with _spooled(rows) as (_, kept):
        parquet.write(kept, opened)


def cell(value: Any) -> str:
    """What a cell of text holds: the text itself, nothing for null, JSON text for all else."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


@contextmanager
def _spooled(rows: Iterable[Row]) -> Generator[tuple[list[str], Callable[[], Iterator[Row]]]]:
    """All columns in the order in which they come up, and the rows, which may be gone through again: a table
    must know its columns before its first row, and memory must not hold the rows."""
    columns: dict[str, None] = {}
    with TemporaryFile("w+", encoding="utf-8") as spool:
        for row in rows:
            columns.update(dict.fromkeys(row))
            spool.write(f"{json.dumps(row)}\n")

        def kept() -> Iterator[Row]:
            spool.seek(0)
            return map(json.loads, spool)

        yield list(columns), kept
