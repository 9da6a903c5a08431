"""What the tests of the command line need: a tiny model, small data, a directory to stand in."""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from turnsmith.cli.main import call
from turnsmith.testing import directory


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory."""
    return directory(tmp_path_factory.mktemp("model"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[Sequence[Any]], Path]:
    """Writes rows into a jsonl file outside the working directory."""

    def write(rows: Sequence[Any], name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def recipe(tmp_path: Path, tiny: Path) -> Callable[..., Path]:
    """Writes a recipe that trains the tiny model on a file. Changes go into its `train` step."""

    def write(data: Path | str, *, base: str | None = None, evaluate: bool = False, **train: Any) -> Path:
        step = {
            "name": "tuned",
            "data": "chats",
            "trainable": {"lora": {"rank": 2}},
            "fit": {"steps": 2, "batch": 2, "length": 128, "dtype": "float32"},
            **train,
        }
        steps: list[Any] = [{"data": {"name": "chats", "read": str(data)}}, {"train": step}]
        if evaluate:
            suite = [{"heldout": {"on": "chats"}}, {"abilities": {"every": 60}}]
            steps.append({"evaluate": {"model": "tuned", "suite": suite}})
        path = tmp_path / "mine.yaml"
        path.write_text(
            json.dumps({"title": "Mine", "base": base or str(tiny), "forgetting": False, "steps": steps})
        )
        return path

    return write


@pytest.fixture
def refused(here: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must be refused as wrong use, leaving the directory as it was; gives its words."""

    def run(*arguments: object, code: int = 2) -> str:
        before = sorted(here.rglob("*"))
        assert call([str(argument) for argument in arguments]) == code
        assert sorted(here.rglob("*")) == before
        said = capfd.readouterr().err
        assert "Traceback" not in said
        return said

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a file of 100 kB; skipped where none can be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here (not root, or not allowed)")
    yield place
    subprocess.run(["umount", str(place)], check=True)
