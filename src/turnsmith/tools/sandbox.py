"""One sandbox for programs that models write: no network, no files of the user, no way to outlast its limits.

On Linux a program runs in namespaces of its own (user, mounts, processes, network, communication): it sees
Python, its libraries and a working directory in memory, and nothing else. Where namespaces are not allowed it
runs under limits only; what is missing then is said by a warning, by `available` and in each outcome.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Literal

from turnsmith.errors import SandboxError, UsageError
from turnsmith.tools.watch import Watch, watched

Form = Literal["namespaces", "limits"]
Finish = Literal["exit", "signal", "time", "memory", "output"]
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
MISSING = (
    "the network is not cut",
    "files that everybody may read or write can be read or written",
    "files that it makes are bounded one by one only",
    "other processes can be seen",
)
OF_THE_USER = (
    "files of this user can be read and written",
    "processes of this user can be ended",
)  # where we are not root, and cannot become another user


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use. seconds: by the clock, from its start. memory_bytes: of addresses, of each of
    `processes`, which counts threads too. output_bytes: of stdout and of stderr. file_bytes, files: all that
    lie in the working directory. descriptors: files that are open at once."""

    seconds: float = 10.0
    cpu_seconds: int = 10
    memory_bytes: int = 512 * 2**20
    output_bytes: int = 2**20
    file_bytes: int = 16 * 2**20
    files: int = 256
    processes: int = 8
    descriptors: int = 64

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise UsageError(f"a limit must be above 0: {name} is {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Isolation:
    """How programs are kept apart here. missing: what is not held, in words. why: what the system said."""

    form: Form
    missing: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a program. finish: `exit` with `code`; `signal`, code being less its number; or the limit
    that ended it, code None or as the system gave it. `memory` is also a MemoryError that nobody caught.

    stdout, stderr: at most `output_bytes` of each; bytes that are no UTF-8 are written as backslash escapes.
    missing: what was not held.
    """

    finish: Finish
    code: int | None
    stdout: str
    stderr: str
    seconds: float
    missing: tuple[str, ...] = ()

    @property
    def succeeded(self) -> bool:
        return self.finish == "exit" and self.code == 0


def run(
    program: str,
    *,
    stdin: str = "",
    files: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    isolation: Isolation | None = None,
) -> Outcome:
    """Run a program of Python, apart from everything, and say what came of it.

    It runs in this interpreter with `-I -S`: with the standard library alone, an empty environment, and a
    directory of its own in which `files`, by their relative names, lie. isolation: `available()`, unless a
    weaker one is asked for. May be called from several threads. Raises UsageError for a file that would lie
    elsewhere, SandboxError where nothing can be run.
    """
    held, bounds = isolation or available(), limits or Limits()
    for name in files or {}:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or name in ("", ".", "program.py"):
            raise UsageError(
                f"a file of the sandbox must lie in its directory, beside program.py: not {name!r}"
            )
    with _place({**(files or {}), "program.py": program}, stdin, held.form) as place:
        command = partial(_command, place, held.form, bounds)
        return _outcome(watched(command, place / "stdin", bounds), bounds, held)


@cache
def available() -> Isolation:
    """How programs are isolated here, found out by running one; a warning says what is missing."""
    trial = Isolation("namespaces")
    why = "this is no Linux"
    if sys.platform == "linux":
        try:
            return Isolation("namespaces", run("", isolation=trial).missing)
        except SandboxError as error:
            why = str(error)
    lost = run("", isolation=weaker(why)).missing
    warnings.warn(
        f"programs that models write run under limits only: {'; '.join(lost)} ({why})", RuntimeWarning, 2
    )
    return Isolation("limits", lost, why)


def weaker(why: str = "asked for") -> Isolation:
    """Limits without namespaces."""
    return Isolation("limits", MISSING if os.geteuid() == 0 else (*MISSING, *OF_THE_USER), why)


# ------------------------------------------------------------------------------------ how it is run


@contextmanager
def _place(files: Mapping[str, str], stdin: str, form: Form) -> Generator[Path]:
    """A folder with the program's files, its input and room for its root, which goes in the end."""
    place = Path(tempfile.mkdtemp(prefix="turnsmith-sandbox-"))
    try:
        (place / "root").mkdir()
        for name, text in files.items():
            path = place / "box" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8", "surrogatepass")
        (place / "stdin").write_text(stdin, "utf-8", "surrogatepass")
        yield place
    finally:
        if form == "namespaces":
            shutil.rmtree(place)  # the program was never in it
        else:
            _removed(place)


def _removed(place: Path) -> None:
    """A program may have made folders that cannot be entered, and more of them in each other than Python
    can follow: the system's own commands can."""
    for command in (["/bin/rm", "-rf"], ["/bin/chmod", "-R", "u+rwx"], ["/bin/rm", "-rf"]):
        if place.exists():
            subprocess.run([*command, str(place)], capture_output=True, check=False)


def _command(place: Path, form: Form, limits: Limits, status: int) -> list[str]:
    python = str(Path(getattr(sys, "_base_executable", None) or sys.executable).resolve())
    bounds = (
        limits.cpu_seconds, limits.memory_bytes, limits.file_bytes, limits.files, limits.processes,
        limits.descriptors,
    )  # fmt: skip
    encloser = str(Path(__file__).with_name("enclose.py"))
    start = [python, "-I", "-S", "-B", encloser, form, str(place), str(status), python]
    return [*start, *map(str, bounds), *(_visible(python) if form == "namespaces" else ())]


@cache
def _visible(python: str) -> tuple[str, ...]:
    """The interpreter, where it and the system have their libraries, and three devices."""
    bases = [Path(sys.base_prefix), Path(sys.base_exec_prefix)]
    own = [*(base / name for base in bases for name in ("lib", "lib64")), Path(sysconfig.get_path("stdlib"))]
    shared = sysconfig.get_config_var("LIBDIR")  # where the interpreter looks for its own library
    own += [Path(shared)] if shared else []
    system = [path for path in map(Path, (*LIBRARIES, *DEVICES)) if path.exists()]
    wanted = [*system, *(path.resolve() for path in own if path.exists()), Path(python)]
    folders = [path for path in wanted if path.is_dir() and not path.is_symlink()]
    found = [path for path in wanted if not any(folder in path.parents for folder in folders)]
    return tuple(dict.fromkeys(map(str, found)))


def _outcome(watch: Watch, limits: Limits, held: Isolation) -> Outcome:
    failed, ended = watch.lines("failed"), watch.lines("ended")
    if failed or watch.started is None:
        said = watch.err.decode("utf-8", "backslashreplace").strip()[-300:]
        why = "; ".join(failed) or said or "it ended, or took too long, before it started"
        raise SandboxError(f"no program can be run by {held.form} here: {why}")
    code, cpu = (int(ended[0].split()[0]), float(ended[0].split()[1])) if ended else (None, 0.0)
    stdout, stderr = (bytes(one).decode("utf-8", "backslashreplace") for one in (watch.out, watch.err))
    seconds = (watch.ended or watch.closed) - watch.started
    finish = watch.broken or _finish(code, cpu, stderr, limits)
    missing = tuple(dict.fromkeys((*held.missing, *watch.lines("lacks"))))
    return Outcome(finish, code, stdout, stderr, seconds, missing)


def _finish(code: int | None, cpu: float, stderr: str, limits: Limits) -> Finish:
    """How a program ended that no one ended from outside."""
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu >= limits.cpu_seconds):
        return "time"
    last = stderr.rstrip().rsplit("\n", 1)[-1]
    if code in (None, -signal.SIGKILL) or (code == 1 and last.startswith("MemoryError")):
        return "memory"  # nobody but the kernel, short of memory, ends it so
    return "exit" if code is not None and code >= 0 else "signal"
