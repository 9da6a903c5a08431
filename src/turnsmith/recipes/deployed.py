"""What became of a run's models: a line beside run.json for each that was handed on, with its fingerprint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from turnsmith.errors import UsageError
from turnsmith.models import card, load
from turnsmith.models.directory import file_hash
from turnsmith.shelf import write_text
from turnsmith.types import is_object

FILE = "deployed.jsonl"


def note(reference: str, way: str, place: Path | str) -> None:
    """Keep beside run.json that a run's model was handed on; nothing of a model that no run made.

    way: how, e.g. `gguf`, or `served`. place: the directory that was written, all files of which are hashed,
    or the address at which it is asked.
    """
    known = card.history(reference)
    if known is None:
        return
    link = Path(reference).expanduser()
    file = link.parent / FILE
    row = {
        "model": link.name,
        "fingerprint": load.fingerprint(reference),
        "way": way,
        "place": str(place),
        "files": hashes(place) if isinstance(place, Path) else None,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    before = file.read_text("utf-8") if file.exists() else ""
    write_text(file, before + json.dumps(row, ensure_ascii=False) + "\n")


def noted(directory: Path) -> list[dict[str, Any]]:
    """The lines of a run's directory, the oldest first. Raises UsageError where the file is broken."""
    file = directory / FILE
    if not file.exists():
        return []
    try:
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise UsageError(f"{file} is broken ({error}): remove it, and export again what is in use") from None
    if not all(is_object(row) for row in rows):
        raise UsageError(f"{file} is broken: remove it, and export again what is in use")
    return rows


def hashes(place: Path) -> Mapping[str, str]:
    """The sha256 of every file under a directory, by its path in it."""
    files = sorted(file for file in place.rglob("*") if file.is_file())
    return {str(file.relative_to(place)): file_hash(file) for file in files}
