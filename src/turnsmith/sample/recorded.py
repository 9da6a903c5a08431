"""What servers have answered, on disk: a request that is made again is not sent again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from turnsmith.shelf import writing
from turnsmith.types import Json, is_object


class Recorded:
    """Replies by key in a file of lines `{"key", "asked", "said"}`, which only grows.

    A line is handed to the system in one write, so that several processes may share the file, and is there
    however the process ends; a line that a kill tore is left where it is and not read. Raises StorageError
    where the disk is full.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._said: dict[str, Any] = {}
        self._read = 0  # bytes of the file that `_said` knows

    def get(self, key: str) -> dict[str, Any] | None:
        """What was said; None where it was not asked, or not answered."""
        if key not in self._said:
            self._look()  # another process may have asked meanwhile
        return self._said.get(key)

    def add(self, key: str, asked: Json, said: Json) -> None:
        """Keep what was said, for all times."""
        line = json.dumps({"key": key, "asked": asked, "said": said}, ensure_ascii=False)
        with writing(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            opened = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                size = os.fstat(opened).st_size
                torn = size > 0 and os.pread(opened, 1, size - 1) != b"\n"
                whole = ("\n" if torn else "").encode() + line.encode("utf-8", "replace") + b"\n"
                if os.write(opened, whole) < len(whole):
                    raise OSError(28, "No space left on device")  # ENOSPC: what came later than this is torn
            finally:
                os.close(opened)
        self._said[key] = said

    def _look(self) -> None:
        """Read the lines that came since the last look."""
        if not self.file.exists() or self.file.stat().st_size <= self._read:
            return
        with self.file.open("rb") as opened:
            opened.seek(self._read)
            lines = opened.read().split(b"\n")
        self._read += sum(len(line) + 1 for line in lines[:-1])
        for line in lines[:-1]:
            try:
                row: Any = json.loads(line)
            except ValueError:
                continue  # torn by a kill: its request is made again
            if is_object(row) and is_object(row.get("said")):
                self._said.setdefault(str(row.get("key")), row["said"])
