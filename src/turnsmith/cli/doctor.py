"""`turnsmith doctor`: what this machine has, whether Turnsmith works on it, and what would make it faster."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from turnsmith.cli.common import AsJson, print_json
from turnsmith.data.processes import usable_cores
from turnsmith.versions import TESTED

if TYPE_CHECKING:
    from turnsmith.tools.sandbox import Isolation

STACK = ("torch", "transformers", "peft", "accelerate")
QUICKSTART = 3.0  # GiB that `turnsmith run quickstart` holds at its peak, rounded up
ROOM = 2.0  # GiB that its model, data and artefacts take on the disk, rounded up
BUSY = 0.5  # running programs for each usable core, above which they are in our way


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. state: `broken` makes the exit code 1. advice: what to do about it, empty if nothing."""

    name: str
    text: str
    state: Literal["fine", "note", "broken"] = "fine"
    advice: str = ""


def command(
    quick: Annotated[
        bool, typer.Option("--quick", help="Look only: leave out the self-test of some seconds.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what this machine has, try Turnsmith out in at most 20 seconds, and give advice."""
    found: list[Finding] = []
    for finding in examine(quick=quick):
        found.append(finding)
        if not as_json:
            print(f"{finding.name:<14}{finding.text}", flush=True)
    broken = any(finding.state == "broken" for finding in found)
    if as_json:
        print_json({"works": not broken, "findings": [asdict(finding) for finding in found]})
    else:
        for finding in found:
            if finding.advice:
                print(f"{'advice':<14}{finding.advice}")
        print(f"{'verdict':<14}{'something is broken' if broken else 'Turnsmith works here'}")
    if broken:
        raise typer.Exit(1)


def examine(*, quick: bool = False) -> Iterator[Finding]:
    """All findings, each as soon as it is known. Nothing is fetched."""
    yield from versions()
    yield from processor()
    yield memory()
    yield from storage()
    yield sandbox()
    if quick or any(version(name) is None for name in STACK):
        return
    from turnsmith.cli import trial

    yield from trial.devices()
    yield from trial.all_of_it()


# ---------------------------------------------------------------------------------------- versions


def versions() -> Iterator[Finding]:
    """Python and the packages that models are made of, against the series that the tests run with."""
    from turnsmith.recipes.summary import machine

    yield Finding("turnsmith", version("turnsmith") or "not installed: found on the path")
    yield judged("python", str(machine()["python"]))
    for name in STACK:
        yield judged(name, version(name))


def judged(name: str, here: str | None) -> Finding:
    """A version against the series that the tests were run with.

    >>> judged("torch", "2.13.1").text, judged("torch", "2.14.0").text
    ('2.13.1', '2.14.0, untested: the tests were run with 2.13')
    """
    series = [".".join(map(str, _numbers(tested)[:2])) for tested in TESTED[name]]
    if here is None:
        return Finding(name, "not installed", "broken", f"install {name}: pip install '{name}>={series[0]}'")
    own = _numbers(here)[:2]
    if any(own == _numbers(one) for one in series):
        return Finding(name, here)
    if own < _numbers(series[0]):
        text = f"{here}, too old: the tests were run with {' and '.join(series)}"
        return Finding(name, text, "broken", f"raise {name}: pip install -U '{name}>={series[0]}'")
    return Finding(name, f"{here}, untested: the tests were run with {' and '.join(series)}", "note")


def version(name: str) -> str | None:
    """The installed version; None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text.partition("+")[0])]


# --------------------------------------------------------------------------- processor, memory, disk


def processor() -> Iterator[Finding]:
    """The processor, how much of it may be used, and whether others are using it."""
    from turnsmith.recipes.summary import machine

    there, usable = os.cpu_count() or 1, usable_cores()
    share = "" if usable == there else f", {usable:g} of them usable"
    yield Finding("cpu", f"{machine()['cpu']}, {there} cores{share}")
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > usable:
        yield Finding(
            "threads",
            f"OMP_NUM_THREADS={asked}, more than the {usable:g} usable cores",
            "note",
            f"set OMP_NUM_THREADS={max(1, int(usable))}: threads that share a core wait for each other",
        )
    load = os.getloadavg()[0]
    if load > BUSY * usable and os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        yield Finding(
            "load",
            f"{load:.1f} programs were running on {usable:g} cores over the last minute",
            "note",
            "other programs compete for the cores: set OMP_WAIT_POLICY=PASSIVE, which makes training several "
            "times faster then",
        )


def memory() -> Finding:
    """Main memory, bounded by the control group's limit."""
    import psutil

    found = psutil.virtual_memory()
    total, free = float(found.total), float(found.available)
    limit = _words(Path("/sys/fs/cgroup/memory.max"))
    if limit and limit[0].isdecimal() and int(limit[0]) < total:
        total = float(limit[0])
        used = _words(Path("/sys/fs/cgroup/memory.current"))
        free = min(free, total - float(used[0])) if used else min(free, total)
    text = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    if free / 2**30 < QUICKSTART:
        advice = f"the quickstart needs {QUICKSTART:g} GiB of memory: close other programs, or lower fit.row"
        return Finding("memory", text, "note", advice)
    return Finding("memory", text)


def storage() -> Iterator[Finding]:
    """The directory that everything is kept in: whether it can be written, what it holds, what is left."""
    from turnsmith import wheels

    home = wheels.home()
    there = home
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free / 2**30
    if not (there.is_dir() and os.access(there, os.W_OK)):
        advice = f"{there} cannot be written: set TURNSMITH_HOME to a directory that can"
        yield Finding("cache", f"{home}, which cannot be written", "broken", advice)
    else:
        yield Finding("cache", f"{home}: {_holds(home)}")
    if free < ROOM:
        advice = f"the quickstart needs {ROOM:g} GiB of disk: remove old artefacts from {home / 'shelf'}"
        yield Finding("disk", f"{free:.1f} GiB free", "note", advice)
    else:
        yield Finding("disk", f"{free:,.0f} GiB free")


def sandbox() -> Finding:
    """How programs that models write would be kept apart from everything else here."""
    from turnsmith.errors import SandboxError
    from turnsmith.tools.sandbox import available

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # this line says it
            found = available()
    except SandboxError as error:
        return Finding("sandbox", f"none: {error}", "note", "programs that models write cannot be run here")
    return isolated(found)


def isolated(found: Isolation) -> Finding:
    """What the sandbox holds, and what it does not."""
    if not found.missing:
        return Finding("sandbox", f"{found.form}; nothing is missing")
    advice = "run programs that models write where Linux namespaces are allowed, e.g. by sysctl or as root"
    return Finding("sandbox", f"{found.form}; {'; '.join(found.missing)} ({found.why})", "note", advice)


def _holds(home: Path) -> str:
    from turnsmith.shelf import RECORD

    files = [file for file in home.rglob("*") if file.is_file() and not file.is_symlink()]
    artefacts = sum(1 for _ in (home / "shelf").glob(f"*/{RECORD}"))
    models = sum(1 for _ in (home / "models").glob("*/config.json"))
    return f"{sum(map(_size, files)) / 2**30:.1f} GiB, {artefacts:,} artefacts, {models} models"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # another process has removed it
        return 0


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
