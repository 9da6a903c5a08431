"""A large jsonl file to examples on disk by all cores, going on after a kill.

The file is cut into runs of lines. Each becomes a share: a directory with the lines of an archive, and what
must be known of them to put shares together. A share is there whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnsmith.data import archive, formats, lines, read
from turnsmith.data.archive import Archive
from turnsmith.data.distinct import Distinct
from turnsmith.data.processes import in_order, usable_cores
from turnsmith.data.quarantine import FILE, Id, Place, Quarantine, refuse
from turnsmith.data.split import Keys, values_of
from turnsmith.registry import Registry
from turnsmith.shelf import put, writing
from turnsmith.types import Example

LARGE = 1 << 25  # bytes: below, processes take longer to start than they save
SIZE = 1 << 24  # bytes of a share


def worth(path: Path) -> bool:
    """Whether the file can be shared out, and is large enough for that."""
    return path.suffix == ".jsonl" and path.is_file() and path.stat().st_size >= LARGE and usable_cores() >= 2


def write(
    path: Path,
    file: Path,
    format: str,
    registry: Registry,
    counts: Counter[str],
    bad: Quarantine | None,
    keys: Keys | None,
    *,
    size: int = SIZE,
    processes: int | None = None,
) -> Archive:
    """The examples of `path` as the archive `file`, the same as one process would write.

    Rows that are skipped are counted into `counts`; bad ones go to `bad`, or the first is an error. keys: of
    a split, noted for each example.
    """
    work = _Shares(path, file.parent / "shares", registry, format, bad is not None, keys.by if keys else None)
    runs = lines.runs_of_lines(path, size)
    work.directory.mkdir(parents=True, exist_ok=True)
    missing = [(number, run) for number, run in enumerate(runs) if not work.place(number).is_dir()]
    cores = max(1, int(usable_cores())) if processes is None else processes
    for _ in in_order(work, missing, cores) if cores > 1 else map(work, missing):
        pass
    made = archive.write_lines(file, _joined(work, len(runs), counts, bad, keys))
    shutil.rmtree(work.directory)
    return made


def _joined(
    work: _Shares, count: int, counts: Counter[str], bad: Quarantine | None, keys: Keys | None
) -> Iterator[bytes]:
    """The lines of all shares, without those whose id an earlier one has."""
    seen = Distinct()
    for number in range(count):
        place = work.place(number)
        said = json.loads((place / "said.json").read_text("utf-8"))
        counts.update({f"skipped: {reason}": many for reason, many in said["skipped"].items()})
        if bad is not None:
            bad.add(place / FILE)
        own = Archive([place / "all.jsonl"])
        for (id, at, values), line in zip(said["rows"], own.lines(0, len(own)), strict=True):
            if not seen.add(id):
                where = Place(str(work.path), at)
                refuse(
                    f"an earlier row has the id {id!r} too; ids must differ", where, json.loads(line), bad, id
                )
                continue
            if keys is not None:
                keys.note(values)
            yield line


@dataclass(frozen=True, slots=True)
class _Shares:
    """Makes one share, in whatever process."""

    path: Path
    directory: Path
    registry: Registry
    format: str
    quarantine: bool
    by: str | None

    def place(self, number: int) -> Path:
        return self.directory / f"{number:06}"

    def __call__(self, task: tuple[int, tuple[int, int, int]]) -> None:
        number, (start, stop, first) = task
        aside = self.directory / f"{number:06}.{os.getpid()}.partial"
        shutil.rmtree(aside, ignore_errors=True)
        with writing(aside):
            aside.mkdir()
            bad = Quarantine(aside / FILE) if self.quarantine else None
            skipped: Counter[str] = Counter()
            rows = read.named(lines.jsonl_between(self.path, start, stop, first, bad), bad)
            at: list[int] = []
            found = formats.examples(
                _placed(rows, at), self.format, self.registry, str(self.path), skipped, bad
            )
            said: list[Any] = []
            archive.write(aside / "all.jsonl", self._telling(found, at, said))
            known: Mapping[str, Any] = {"rows": said, "skipped": skipped}
            (aside / "said.json").write_text(json.dumps(known), "utf-8")
            put(aside, self.place(number))

    def _telling(self, examples: Iterator[Example], at: list[int], said: list[Any]) -> Iterator[Example]:
        for example in examples:
            said.append((example.id, at[0], values_of(example, self.by) if self.by else []))
            yield example


def _placed(rows: Iterator[tuple[Id, Any]], at: list[int]) -> Iterator[tuple[Id, Any]]:
    """The rows; `at` holds the line of the one that was asked for last."""
    for id, row in rows:
        at[:] = [id.place.number if id.place else 0]
        yield id, row
