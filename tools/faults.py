"""Plants each fault of faults/ in a copy of the tree and requires that the tests it names fail.

    python tools/faults.py [NAME...]

Exit code 0 if every fault is caught, 1 if one is not, does not apply, or its tests do not pass without it.
faults/README.md says how a fault is written.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("src", "tests", "tools", "benchmarks", "pyproject.toml")
WORKERS = 2
LIMIT = 600  # seconds for the tests of one fault: a fault may make a loop endless, and that counts as caught


@dataclass(frozen=True, slots=True)
class Fault:
    """A patch and the arguments for pytest that should reveal it."""

    name: str
    patch: Path
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a fault: `said` is "caught", or what is wrong and how that was seen."""

    name: str
    said: str
    seconds: float
    output: str = ""

    @property
    def caught(self) -> bool:
        return self.said == "caught"


def main(names: Sequence[str]) -> int:
    """Runs the named faults, or all, and prints a table."""
    faults = [read(patch) for patch in chosen(names)]
    if not faults:
        print("no faults in faults/")
        return 0
    suites = list(dict.fromkeys(fault.tests for fault in faults))
    with ThreadPoolExecutor(WORKERS) as pool:
        clean = dict(zip(suites, pool.map(run, suites), strict=True))
        verdicts: list[Verdict] = []
        width = max(len(fault.name) for fault in faults)
        for verdict in pool.map(judge, faults, [clean[fault.tests] for fault in faults]):
            print(f"{verdict.name:{width}}  {verdict.seconds:5.1f} s  {verdict.said}", flush=True)
            verdicts.append(verdict)
    missed = [verdict for verdict in verdicts if not verdict.caught]
    for verdict in missed:
        print(f"\n{verdict.name}: {verdict.said}\n{verdict.output[-4000:]}")
    print(f"{len(verdicts) - len(missed)} of {len(verdicts)} faults caught")
    return 1 if missed else 0


def chosen(names: Sequence[str]) -> list[Path]:
    """The patches of these names, or all; SystemExit names an unknown one."""
    patches = {patch.stem: patch for patch in sorted((ROOT / "faults").glob("*.patch"))}
    unknown = [name for name in names if name not in patches]
    if unknown:
        sys.exit(f"no fault {', '.join(unknown)} in faults/; there are: {', '.join(patches) or 'none'}")
    return [patches[name] for name in names or patches]


def read(patch: Path) -> Fault:
    """A fault from its file; SystemExit if the first line does not name tests."""
    first = patch.read_text(encoding="utf-8").partition("\n")[0]
    head, _, tests = first.partition(":")
    if head.strip() != "# tests" or not tests.strip():
        sys.exit(f"{patch.name}: the first line must be `# tests: tests/...`, it is `{first}`")
    return Fault(patch.stem, patch, tuple(shlex.split(tests)))


def judge(fault: Fault, clean: tuple[int, str]) -> Verdict:
    """The verdict on a fault, given exit code and output of its tests without it."""
    started = time.monotonic()
    code, output = clean
    if code != 0:
        return Verdict(fault.name, f"its tests fail without it (pytest ended with {code})", 0.0, output)
    code, output = run(fault.tests, patch=fault.patch)
    seconds = time.monotonic() - started
    match code:
        case 1 if "ERROR collecting" not in output:  # with -x pytest ends with 1 there too
            return Verdict(fault.name, "caught", seconds)
        case 0:
            return Verdict(fault.name, "NOT caught: the tests pass with it", seconds, output)
        case -1:
            return Verdict(fault.name, "does not apply any more", seconds, output)
        case _:
            return Verdict(fault.name, f"its tests did not run (pytest ended with {code})", seconds, output)


def run(tests: Sequence[str], *, patch: Path | None = None) -> tuple[int, str]:
    """Exit code and output of pytest in a patched copy; -1 if the patch does not apply, 1 past the limit."""
    with copy() as tree:
        if patch:
            applied = call(["git", "apply", str(patch)], tree)
            if applied.returncode != 0:
                return -1, applied.stdout
        # The last -m counts: a fault that only slow tests reveal says `-m slow` behind their names.
        options = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow and not gpu and not kill"]
        try:
            done = call([sys.executable, "-m", "pytest", *options, *tests], tree)
        except subprocess.TimeoutExpired:
            return 1, f"stopped after {LIMIT} seconds"
        return done.returncode, done.stdout


@contextmanager
def copy() -> Generator[Path]:
    """A copy of what tests need, with ../shared beside it if the tree has that."""
    with TemporaryDirectory(prefix="turnsmith-fault-") as directory:
        tree = Path(directory) / "tree"
        tree.mkdir()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, tree / name)
        if (ROOT.parent / "shared").is_dir():
            (tree.parent / "shared").symlink_to(ROOT.parent / "shared")
        yield tree


def call(command: Sequence[str], tree: Path) -> subprocess.CompletedProcess[str]:
    """A command in the copy, which hides the installed turnsmith and belongs to no repository."""
    environment = os.environ | {
        "PYTHONPATH": str(tree / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_CEILING_DIRECTORIES": str(tree.parent),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        command, cwd=tree, env=environment, text=True, timeout=LIMIT, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
