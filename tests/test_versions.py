"""What is said to be tested agrees with what may be installed and with what the tests are pinned to."""

import re
import tomllib
from pathlib import Path

from turnsmith.versions import TESTED

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def least(package: str) -> str:
    (found,) = (one.partition(">=")[2] for one in PROJECT["dependencies"] if one.startswith(f"{package}>="))
    return found


def test_the_lowest_versions_that_may_be_installed_are_tested():
    assert PROJECT["requires-python"] == f">={TESTED['python'][0]}"
    for package in TESTED.keys() - {"python"}:
        assert TESTED[package][0].startswith(least(package))


def test_the_classifiers_name_the_tested_pythons():
    found = [
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", one) for one in PROJECT["classifiers"]
    ]
    assert tuple(match[1] for match in found if match) == TESTED["python"]


def test_the_pinned_versions_are_the_newest_tested():
    file = ROOT / "constraints.txt"
    if file.is_file():  # not in the copies that faults are planted in
        pins = dict(line.split("==") for line in file.read_text().splitlines() if "==" in line)
        newest = {name: tested[-1] for name, tested in TESTED.items() if name != "python"}
        assert {name: pins[name] for name in newest} == newest
