"""What is said of a stage of a run once its record was looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from turnsmith import wheels
from turnsmith.errors import UsageError
from turnsmith.recipes.keeping import RUN
from turnsmith.shelf import Shelf
from turnsmith.types import is_object

State = Literal["pass", "fail", "not done"]


@dataclass(frozen=True, slots=True)
class Check:
    """A statement that should hold of a stage. passed: None where it cannot be judged, or only has to be
    known; said: what was found."""

    what: str
    passed: bool | None
    said: str = ""


@dataclass(slots=True)
class Stage:
    """One of the seven stages: what was checked, and what went in and came out.

    inputs: what stands for what the stage was given, a hash for each name. settings, figures: for people.
    """

    number: int
    name: str
    checks: list[Check] = field(default_factory=list[Check])
    inputs: dict[str, Any] = field(default_factory=dict[str, Any])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    figures: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def state(self) -> State:
        """`fail` where a check does, `not done` where there was nothing to check."""
        if any(check.passed is False for check in self.checks):
            return "fail"
        return "pass" if any(check.passed for check in self.checks) else "not done"

    def check(self, what: str, passed: bool | None, said: str = "") -> None:
        """One statement more; what was found before is not said again."""
        found = Check(what, passed, said)
        if found not in self.checks:
            self.checks.append(found)


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that came to an end, as its directory has it."""

    directory: Path
    run: Mapping[str, Any]

    def steps(self, verb: str) -> list[Mapping[str, Any]]:
        """The steps of a verb, in order; one that was carried out again with the same outcome is one."""
        found = {str(step["artefact"]): step for step in self.run["steps"] if step["verb"] == verb}
        return list(found.values())

    def artefact(self, step: Mapping[str, Any]) -> Path:
        """Where what a step made lies."""
        key = str(step["artefact"])
        return Path(str(step["path"])) if step.get("path") else Shelf(wheels.home() / "shelf").path(key)


def finished(directory: Path) -> Finished:
    """The run that left its run.json in this directory. Raises UsageError where there is none, or it is
    broken."""
    file = directory / RUN
    try:
        run = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{directory} has no {RUN}, which a run leaves when it ends: run it to its end"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read ({error}): run the recipe again") from None
    if not is_object(run) or not isinstance(run.get("steps"), list):
        raise UsageError(f"{file} says nothing of steps: run the recipe again")
    return Finished(directory, run)
