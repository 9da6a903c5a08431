"""What runs leave under a directory, read by name while it is being written.

A run has its directory to itself by a lock, and says in NOW how far it has come. Links are not followed:
what is read is in the directory itself, or on the shelf under the name of an artefact.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from turnsmith.shelf import is_held
from turnsmith.types import is_list, is_object

LOCK = "turnsmith.lock"
RUN, RECIPE, REPORT, COMPARISON = "run.json", "recipe.yaml", "report.html", "comparison.json"
NOW = "now.json"  # there while a run is at work, and of one that was killed
DEPTH = 4  # compare-on-DATA/rung-0.5/METHOD/seed-0
T = TypeVar("T")
KEY = re.compile(r"[0-9a-f]{20}")  # of an artefact

State = Literal["running", "done", "failed", "stopped", "killed"]
ENDS: tuple[State, ...] = ("done", "failed", "stopped")


@dataclass(frozen=True, slots=True)
class Left:
    """A run or a comparison of several. name: its path under the directory that was looked through."""

    name: str
    directory: Path
    kind: Literal["run", "comparison"]
    state: State

    @property
    def report(self) -> Path | None:
        """The page that it left."""
        return own(self.directory / REPORT)

    @property
    def file(self) -> Path:
        """Where it says what it is: run.json or comparison.json; of one at work, or killed, NOW."""
        at_work = self.state in ("running", "killed")
        return self.directory / (NOW if at_work else COMPARISON if self.kind == "comparison" else RUN)

    @property
    def told(self) -> Mapping[str, Any]:
        """What stands in that file. Keep it as it is: it may be given again."""
        return read(self.file) or {}


def runs(root: Path) -> dict[str, Left]:
    """All runs and comparisons under `root`, by name, sorted; none where it is absent."""
    return {one.name: one for one in sorted(_under(root, root, DEPTH), key=lambda one: one.name)}


def own(file: Path) -> Path | None:
    """The file, if it is one, and no link to another place."""
    return file if file.is_file() and not file.is_symlink() else None


def read(file: Path) -> Mapping[str, Any] | None:
    """What a JSON file holds, if it is an object; files are replaced as a whole, so none is half written."""
    try:
        stamp = file.lstat()
        return _read(file, stamp.st_mtime_ns, stamp.st_size) if own(file) else None
    except OSError:
        return None


def remembered(file: Path, short: Callable[[Mapping[str, Any]], T]) -> T | None:
    """What `short` makes of a JSON file, worked out once as long as the file stays as it is: of many runs
    nothing else is held. None where there is no such object."""
    try:
        stamp = file.lstat()
    except OSError:
        return None
    return _remembered(file, short, stamp.st_mtime_ns, stamp.st_size) if own(file) else None


@lru_cache(maxsize=4096)
def _remembered(file: Path, short: Callable[[Mapping[str, Any]], T], at: int, size: int) -> T | None:
    found = _parsed(file)
    return None if found is None else short(found)


@lru_cache(maxsize=16)
def _read(file: Path, at: int, size: int) -> Mapping[str, Any] | None:
    """The same, once for each time at which the file was written."""
    return _parsed(file)


def _parsed(file: Path) -> Mapping[str, Any] | None:
    try:
        found: Any = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):  # it may be gone in this very moment
        return None
    return found if is_object(found) else None


def steps(told: Mapping[str, Any], verb: str | None = None) -> list[Mapping[str, Any]]:
    """The steps that a run names, of one verb or of all; what is no step is left out."""
    found: Any = told.get("steps")
    every = [one for one in found if is_object(one)] if is_list(found) else []
    return [one for one in every if verb in (None, one.get("verb"))]


def artefact(shelf: Path, step: Mapping[str, Any]) -> Path | None:
    """Where the artefact of a step is on the shelf, finished or in the making; None where it is not there."""
    key = str(step.get("artefact"))
    if not KEY.fullmatch(key):
        return None
    places = (shelf / key, shelf / f"{key}.partial")
    return next((place for place in places if place.is_dir() and not place.is_symlink()), None)


def _under(root: Path, directory: Path, depth: int) -> Iterator[Left]:
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    if directory != root and (one := _left(root, directory, {entry.name for entry in entries})):
        yield one
    for entry in entries if depth else ():
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from _under(root, Path(entry.path), depth - 1)


def _left(root: Path, directory: Path, names: set[str]) -> Left | None:
    """What is in this directory itself; None where no run was at work there."""
    name, held = str(directory.relative_to(root)), LOCK in names and is_held(directory / LOCK)
    if COMPARISON in names:
        return Left(name, directory, "comparison", "running" if held else "done")
    if not held and not names & {RUN, NOW, RECIPE}:
        return None
    return Left(name, directory, "run", "running" if held else _ended(directory, names))


def _ended(directory: Path, names: set[str]) -> State:
    """How a run ended that is not at work any more. One that was killed left NOW, or a recipe alone."""
    if NOW in names or RUN not in names:
        return "killed"
    return remembered(directory / RUN, _state) or "failed"


def _state(told: Mapping[str, Any]) -> State:
    for state in ENDS:
        if state == told.get("state"):
            return state
    return "failed"
