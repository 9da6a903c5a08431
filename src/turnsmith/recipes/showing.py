"""Examples of a data file to look at, and a data file divided into several."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from turnsmith.data.quarantine import FILE, BadRows
from turnsmith.errors import UsageError
from turnsmith.recipes import components
from turnsmith.recipes.describing import conversations, exact, quarantine, words
from turnsmith.shelf import write_text
from turnsmith.types import Example

COUNT = 3  # examples that are shown where nobody says which
REPEATED = "said word for word in an earlier split too: they leak"


def chosen(
    data: str | Path,
    ids: Sequence[str] = (),
    *,
    where: str | None = None,
    start: int = 1,
    count: int | None = None,
    format: str = "auto",
    bad_rows: BadRows = "stop",
    bad_rows_to: str | Path | None = None,
    use: Sequence[Path | str] = (),
) -> list[Example]:
    """The examples with these ids, or the first of those in which `where` is said.

    start: the number of the first example that is looked at, from 1. count: most that are wanted; 3 where no
    ids are given. The others as of `describe`. Nothing is read beyond the last that is wanted. Raises
    UsageError naming ids that are not there, and where nothing is found.
    """
    from turnsmith.data import formats, read

    if start < 1 or (count is not None and count < 1):
        raise UsageError(f"--from and --count must be at least 1, not {start} and {count}")
    path = read.locate(str(data))
    bad = quarantine(path, bad_rows, bad_rows_to)
    _, examples = formats.stream(path, format, components(use), Counter(), bad)
    wanted, most = set(ids), count or (len(set(ids)) if ids else COUNT)
    found: list[Example] = []
    seen: list[str] = []
    for number, example in enumerate(examples, start=1):
        if len(seen) < COUNT:
            seen.append(example.id)
        if number >= start and (not wanted or example.id in wanted) and _says(example, where):
            found.append(example)
        if len(found) == most:
            break
    missing = sorted(wanted - {example.id for example in found})
    if missing and count is None:
        some = ", ".join(repr(id) for id in missing[:COUNT])
        raise UsageError(f"{path} has no example {some}; its ids are like {', '.join(map(repr, seen))}")
    if not found:
        raise UsageError(f"{path}: no example was found from number {start} on that says {where!r}")
    return found


def _says(example: Example, where: str | None) -> bool:
    return where is None or any(where.lower() in words(one).lower() for _, one in conversations(example))


def divide(
    data: str | Path,
    shares: Mapping[str, float],
    out: str | Path,
    *,
    by: str = "id",
    seed: int = 0,
    force: bool = False,
    format: str = "auto",
    bad_rows: BadRows = "stop",
    use: Sequence[Path | str] = (),
) -> dict[str, Any]:
    """Write NAME.jsonl for each share into the folder `out`, so that no value of `by` is in two of them.

    Rows are in the format `turnsmith`, which loses nothing. Gives the number of examples and of values of
    `by` for each file, and `counts` of what was left out, and of examples that another split has word for
    word. Raises UsageError where a file is there already, unless `force`.
    """
    from turnsmith.data import formats, read
    from turnsmith.data.split import BETWEEN, split

    folder, path = Path(out), read.locate(str(data))
    files = {name: folder / f"{name}.jsonl" for name in shares}
    there = [str(file) for file in files.values() if file.exists()]
    if there and not force:
        raise UsageError(f"{', '.join(there)}: there already; name another folder, or say --force")
    if any(file.exists() and file.samefile(path) for file in files.values()):
        raise UsageError(f"{path} would be written over while it is divided: name another folder")
    bad = quarantine(path, bad_rows, folder / FILE if bad_rows == "quarantine" else None)
    examples, _, skipped = formats.from_file(path, format, components(use), bad)
    parts, between = split(examples, shares, by=by, seed=seed)
    counts = Counter({f"skipped: {reason}": count for reason, count in skipped.items()})
    counts.update(bad.counts if bad else {})
    counts.update({BETWEEN: between} if between else {})
    repeated = _repeated(parts)
    counts.update({REPEATED: repeated} if repeated else {})
    for name, ones in parts.items():
        lines = (json.dumps(formats.to_row(one), ensure_ascii=False) for one in ones)
        write_text(files[name], "\n".join(lines) + "\n")
    splits = {
        name: {"file": str(files[name]), "examples": len(ones), "values": len(_values(ones, by))}
        for name, ones in parts.items()
    }
    return {
        "splits": splits,
        "counts": dict(counts),
        "bad_rows_in": str(bad.path) if bad and bad.counts else None,
    }


def _values(examples: Sequence[Example], by: str) -> set[str]:
    found: set[str] = set()
    for example in examples:
        value = example.id if by == "id" else example.meta[by]
        found.update(map(str, value) if isinstance(value, list | tuple) else [str(value)])
    return found


def _repeated(parts: Mapping[str, Sequence[Example]]) -> int:
    """How many examples of later splits say what one of an earlier split says."""
    seen: set[int] = set()
    count = 0
    for ones in parts.values():
        own = [hash(tuple(exact(one) for _, one in conversations(example))) for example in ones]
        count += sum(key in seen for key in own)
        seen.update(own)
    return count
