"""Data from one format to another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from turnsmith.data.quarantine import BadRows, Quarantine, refuse
from turnsmith.errors import DataError, UsageError
from turnsmith.recipes import components
from turnsmith.recipes.describing import quarantine
from turnsmith.registry import Write
from turnsmith.types import Example, Json

LIKE = {
    frozenset({"text"}): "messages",
    frozenset({"prompt"}): "prompt",
    frozenset({"chosen", "rejected"}): "pairs",
}  # the most common format for examples with these parts


def convert(
    data: str | Path,
    out: str | Path,
    *,
    to: str = "auto",
    format: str = "auto",
    bad_rows: BadRows = "stop",
    bad_rows_to: str | Path | None = None,
    use: Sequence[Path | str] = (),
    force: bool = False,
) -> dict[str, Any]:
    """Write the data in another format, or to another kind of file; gives what was read, written and lost.

    out: its ending says what kind of file it is. to: the format; where it is `auto`, messages, prompts, pairs
    or answers with a verdict, whichever the examples are. bad_rows: as of `describe`; a row that the format
    has no place for is a bad row too. force: write over a file that is there. Rows go through one at a time,
    and `out` is there whole or not at all.
    """
    from turnsmith.data import formats, read, sink

    path, target = read.locate(str(data)), Path(out).expanduser()
    _refuse(target, force)
    known, bad = components(use), quarantine(path, bad_rows, bad_rows_to)
    skipped: Counter[str] = Counter()
    guessed, examples = formats.stream(path, format, known, skipped, bad)
    first = next(examples, None)
    if first is None:
        raise DataError(f"{path}: not one usable example ({dict(skipped | (bad.counts if bad else {}))})")
    name, lost = _format(to, first, target), Counter[str]()
    made = _rows(chain([first], examples), known.writer(name), name, str(path), lost, bad)
    written = sink.write(made, target)
    taken = bad.counts if bad else Counter[str]()
    return {
        "file": str(path), "format": guessed.name, "why": guessed.why,
        "rows": written + taken.total() + skipped.total(), "skipped": dict(skipped),
        "bad_rows": dict(taken), "bad_rows_in": str(bad.path) if bad and taken else None,
        "out": str(target), "to": name, "written": written, "lost": dict(lost),
        "note": sink.TABLES.get(read.ending(target), ""),
    }  # fmt: skip


def _refuse(target: Path, force: bool) -> None:
    """Raises UsageError where the file cannot be written, or must not."""
    from turnsmith.data import sink

    sink.check(target)
    if target.is_dir():
        raise UsageError(f"{target} is a folder: name the file to write")
    if target.exists() and not force:
        raise UsageError(f"{target} is there already: name another file, or write over it (--force)")


def _format(to: str, first: Example, target: Path) -> str:
    """What is asked for, or the most common format that holds what the first example has."""
    from turnsmith.data import read, sink

    if to == "turnsmith" and read.ending(target) in sink.TABLES:
        raise UsageError(f"{target}: rows of turnsmith are nested, a table is not: write .jsonl or .json")
    if to != "auto":
        return to
    parts = frozenset(first.parts)
    if parts not in LIKE or any(isinstance(part, tuple) for part in first.parts.values()):
        several = ", ".join(
            f"{name} (several conversations)" if isinstance(part, tuple) else name
            for name, part in first.parts.items()
        )
        raise UsageError(
            f"the examples have the parts {several}: say which format to write (--to); turnsmith has them all"
        )
    return "kto" if parts == {"text"} and "label" in first.values else LIKE[parts]


def _rows(
    examples: Iterator[Example],
    write: Write,
    name: str,
    where: str,
    lost: Counter[str],
    bad: Quarantine | None,
) -> Iterator[dict[str, Json]]:
    """A row of each example; what is lost is counted, and what there is no place for is a bad row."""
    from turnsmith.data import formats

    way = "" if bad else ". Choose another format, or set such rows aside: --bad-rows quarantine"
    for example in examples:
        try:
            row, gone = write(example)
        except DataError as error:
            reason = f"it cannot be written as {name}: {error}{way}"
            refuse(reason, where, formats.to_row(example), bad, example.id)
            continue
        lost.update(gone)
        yield row
