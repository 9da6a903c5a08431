"""Where bad rows go instead of stopping everything: a file of them with places and reasons, and counts."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from turnsmith.errors import DataError, UsageError
from turnsmith.shelf import writing
from turnsmith.types import Json, is_object

BadRows = Literal["stop", "quarantine"]  # what becomes of the first row that cannot be used
FILE = "bad-rows.jsonl"  # files whose names end so are never read as a part of a folder of data
VARYING = re.compile(
    r"'[^']*'|\"[^\"]*\"|(?<![\w-])[0-9]+"
)  # what differs between rows that are bad for one reason


class Place(NamedTuple):
    """Where a row was found. unit: what `number` counts, lines of text or rows of a table."""

    file: str
    number: int
    unit: str = "line"

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}"


class Id(str):
    """The id of a row, which remembers where the row was found; everywhere else it is a plain text."""

    __slots__ = ("place",)
    place: Place | None

    def __new__(cls, text: str, place: Place | None = None) -> Id:
        made = super().__new__(cls, text)
        made.place = place
        return made


class Quarantine:
    """Takes bad rows: each becomes a line `{"file", "line" or "row", "id", "reason", "content"}` of `path`.

    content: the text of the line, its bytes that are no UTF-8 written as `\\xff`, or the row where that could
    be parsed. counts: bad rows by reason, numbers and quoted words left out of it. An earlier quarantine at
    `path` is replaced; raises UsageError where anything else lies there.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not _is_one(path):
            raise UsageError(f"{path} is there and holds no bad rows: name another file for them")
        path.unlink(missing_ok=True)
        self.path = path
        self.counts: Counter[str] = Counter()

    def take(self, reason: str, where: str | Place, content: Json, id: str | None = None) -> None:
        """Write down one bad row. Each is on the disk when this returns."""
        place = (
            {"file": where.file, where.unit: where.number} if isinstance(where, Place) else {"file": where}
        )
        said: dict[str, Any] = {**place, "id": id, "reason": reason, "content": content}
        line = json.dumps(said, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as opened:
                opened.write(line + b"\n")
        self.counts[f"bad row: {kind(reason)}"] += 1

    def add(self, other: Path) -> None:
        """Take in what another quarantine wrote, if it wrote anything."""
        if not other.is_file():
            return
        with writing(self.path), other.open("rb") as lines, self.path.open("ab") as opened:
            for line in lines:
                opened.write(line)
                self.counts[f"bad row: {kind(json.loads(line)['reason'])}"] += 1


def refuse(
    reason: str, where: str | Place, content: Json, bad: Quarantine | None, id: str | None = None
) -> None:
    """Put a bad row into the quarantine; without one, raise DataError naming its place and its own id."""
    if bad is None:
        own = id is not None and not (isinstance(where, Place) and id.endswith(f"-{where.number}"))
        raise DataError(f"{where}{f', row {str(id)!r}' if own else ''}: {reason}")
    bad.take(reason, where, content, id)


def kind(reason: str) -> str:
    """A reason without what differs from row to row, so that rows can be counted by it.

    >>> kind("messages[3] has the unknown role 'bot'")
    'messages[N] has the unknown role ...'
    """
    return VARYING.sub(lambda found: "N" if found[0][0].isdigit() else "...", reason)


def _is_one(path: Path) -> bool:
    with path.open("rb") as opened:
        first = opened.readline()
    try:
        found: Any = json.loads(first or b"{}")
    except ValueError:
        return False
    return not first or (is_object(found) and {"file", "reason", "content"} <= set(found))
