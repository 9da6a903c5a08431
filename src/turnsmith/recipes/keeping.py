"""The directory that a run writes into: one process at a time, and nothing of another run is lost in it."""

from __future__ import annotations

import json
import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith import ranks
from turnsmith.errors import UsageError
from turnsmith.report.left import COMPARISON, LOCK, NOW, RECIPE, REPORT, RUN
from turnsmith.shelf import locked, this_process, write_text, writing
from turnsmith.types import is_list, is_object

if TYPE_CHECKING:
    from turnsmith.recipes.run import Runner

LEFT = (RUN, RECIPE, REPORT, COMPARISON, "turnsmith")  # the last is where trackers write


class Hold:
    """The right to write into a place, until `release` or the end of whoever keeps this. held: the handle of
    a lock, its file, and the directories that were made for it; None of a process that writes nothing."""

    def __init__(self, held: tuple[int, Path, Sequence[Path]] | None) -> None:
        self._end = weakref.finalize(self, _released, os.getpid(), *held) if held else lambda: None

    def release(self) -> None:
        """Let the next one in."""
        self._end()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def hold(directory: Path) -> Hold:
    """The right to write into a directory, which is made, and goes again where nothing is put into it.

    Waits for a process that has it, and says for which; who died has it no more. Raises UsageError where it
    is this process.
    """
    return _held(directory / LOCK, directory)


def hold_file(file: Path) -> Hold:
    """The same of a single file."""
    return _held(file.with_name(f"{file.name}.lock"), file)


def _held(lock: Path, place: Path) -> Hold:
    def meet(holder: str) -> None:
        if holder == this_process():
            raise UsageError(
                f"{place}: another run of this very process is at work there: let it finish first, or give "
                "this one another directory"
            )
        print(f"{holder} is at work in {place}: waiting for it", file=sys.stderr, flush=True)

    if not ranks.is_main():  # the main process holds it for all of a run
        return Hold(None)
    with writing(place):
        lock = lock.absolute()  # whoever lets go may stand elsewhere
        made = [one for one in lock.parents if not one.exists()]
        return Hold((locked(lock, meet), lock, made))


def _released(process: int, handle: int, lock: Path, made: Sequence[Path]) -> None:
    if os.getpid() != process:  # a copy in a process that was forked: the lock is not its own
        return
    with suppress(OSError):  # the disk became read-only, or another run's files are in the directory
        if lock.name == LOCK:
            lock.with_name(NOW).unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
        for directory in made:
            directory.rmdir()
    os.close(handle)


def now(runner: Runner) -> None:
    """Say in the run's directory how far it has come, for who looks on: its steps in short, those that are
    made and the one that is at work."""
    at, key = runner.at, runner.keys[-1] if runner.keys else None
    short = ("verb", "name", "model", "against", "artefact", "seconds")
    made = [{name: step[name] for name in short if name in step} for step in runner.steps]
    found = {"recipe": runner.name, "title": runner.recipe.title, "tiny": runner.tiny, "steps": made}
    found |= {"command": runner.command, "seed": runner.recipe.seed, "base": str(runner.recipe.base)}
    if at is not None and key is not None and len(runner.keys) > len(made):
        verb, step = next(
            (verb, one) for verb in type(at).model_fields if (one := getattr(at, verb)) is not None
        )
        names = getattr(step, "names", None) or [getattr(step, "name", None) or step.model]
        found["at_work"] = {"verb": verb, "name": "+".join(names), "artefact": key}
    write_text(runner.directory / NOW, json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def another(directory: Path, keys: Sequence[str], recipe: str | None) -> bool:
    """Whether what is in the directory was left by a run that made something else than this one so far.

    keys: of the artefacts of this run's steps. recipe: its text, by which a run is known that was killed
    before it could say what it made; None once the one that is there is one's own.
    """
    if not ranks.is_main():
        return False
    there = _run(directory)
    if there is None:
        text = directory / RECIPE
        foreign = recipe is not None and text.exists() and text.read_text("utf-8", "replace") != recipe
        return foreign or (directory / REPORT).exists()
    made = _made(there)
    return made is None or any(one != other for one, other in zip(made, keys, strict=False))


def says_more(directory: Path, found: Mapping[str, Any], *, own: str | None) -> bool:
    """Whether what is in the directory would be lost if `found`, what run.json is to hold, took its place.

    own: what this run wrote there before. A run that was not carried to its end is no loss where all that it
    made is made by this one too.
    """
    if not ranks.is_main():
        return False
    there = _run(directory)
    if there is None or (directory / RUN).read_text("utf-8", "replace") == own:
        return False
    made, keys = _made(there), _made(found) or []
    same = there.get("resolved") == found["resolved"] or there.get("state") != "done"
    return made is None or not same or made != keys[: len(made)]


def set_aside(directory: Path, shelf: Path) -> Path:
    """Move what a run left, and its links into the shelf, to a numbered directory beside; gives which."""
    links = [one for one in directory.iterdir() if one.is_symlink()]
    there = [directory / name for name in LEFT if (directory / name).exists()]
    there += [one for one in links if one.readlink().is_relative_to(shelf.resolve())]
    aside = next(one for n in count(1) if not (one := directory / f"earlier-{n}").exists())
    with writing(aside):
        aside.mkdir()
        for path in there:
            path.rename(aside / path.name)
    return aside


def _run(directory: Path) -> dict[str, Any] | None:
    """What run.json holds; nothing, where it holds no such thing; None where there is none."""
    try:
        found = json.loads((directory / RUN).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return found if is_object(found) else {}


def _made(run: Mapping[str, Any]) -> list[Any] | None:
    """The artefacts of a run's steps; None where it does not say."""
    steps = run.get("steps")
    return [step.get("artefact") for step in steps if is_object(step)] if is_list(steps) else None
