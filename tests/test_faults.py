"""Planted faults keep up with the code: one that does not apply any more would stand for nothing."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATCHES = sorted((ROOT / "faults").glob("*.patch"))


@pytest.fixture(scope="module")
def faults():
    """tools/faults.py, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("turnsmith_faults", ROOT / "tools" / "faults.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def tree(faults):
    with faults.copy() as tree:
        yield tree


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_every_fault_applies_to_the_code_of_today(faults, tree, patch):
    done = faults.call(["git", "apply", "--check", str(patch)], tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_every_fault_names_tests_that_are_there(faults, patch):
    files = [word.split("::")[0] for word in faults.read(patch).tests if word.startswith("tests/")]
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_a_stale_fault_is_told_from_one_that_is_not_caught(faults, tmp_path):
    text = (
        "# tests: tests/test_seeds.py\n# Nothing has this line.\n"
        "--- a/src/turnsmith/seeds.py\n+++ b/src/turnsmith/seeds.py\n@@ -1 +1 @@\n-no such line\n+another\n"
    )
    (tmp_path / "stale.patch").write_text(text)
    verdict = faults.judge(faults.read(tmp_path / "stale.patch"), (0, ""))
    assert not verdict.caught
    assert verdict.said == "does not apply any more"


def test_a_fault_must_name_its_tests(faults, tmp_path):
    (tmp_path / "mute.patch").write_text("# What is wrong.\n")
    with pytest.raises(SystemExit, match=r"mute\.patch: the first line must be"):
        faults.read(tmp_path / "mute.patch")


def test_an_unknown_fault_is_refused_with_the_known_ones(faults):
    with pytest.raises(SystemExit, match="no fault gremlin in faults/; there are: "):
        faults.chosen(["gremlin"])
