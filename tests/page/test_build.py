"""The build that is committed: it comes of its source, says whose work is in it, and leads nowhere else."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "page"
BUILT = ROOT / "src" / "turnsmith" / "serve" / "page"
# Words between tags, and in attributes that are read out or shown; what is in braces comes from texts.ts.
SHOWN = re.compile(
    r"(?<!=)>\s*([A-Za-z][^<>{}=;()]*?)\s*</|\b(?:aria-label|title|placeholder|alt|label)=\"(\w[^\"]*)\""
)


def _files(place):
    return {str(one.relative_to(place)): one.read_bytes() for one in place.rglob("*") if one.is_file()}


@pytest.mark.slow
def test_the_source_gives_the_committed_build_byte_by_byte(tmp_path):
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    place = tmp_path / "repository" / "page"
    shutil.copytree(SOURCE, place, ignore=shutil.ignore_patterns("node_modules"))
    for asked in (["npm", "ci", "--no-audit", "--no-fund"], ["npm", "run", "build"]):
        done = subprocess.run(asked, cwd=place, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    made = _files(tmp_path / "repository" / "src" / "turnsmith" / "serve" / "page")
    assert made.keys() == _files(BUILT).keys()
    assert made == _files(BUILT)


def test_every_text_is_in_one_file():
    places = [one for one in (SOURCE / "src").rglob("*.tsx") if "node_modules" not in one.parts]
    assert len(places) > 10
    found = {
        f"{place.relative_to(SOURCE)}: {words!r}"
        for place in places
        for pair in SHOWN.findall(place.read_text())
        if (words := "".join(pair))
    }
    assert found == set()


@pytest.mark.parametrize(
    "bad",
    ["<p>Say it</p>", "<b>\n  Say it\n</b>", '<input placeholder="Say it" />', '<p aria-label="It">{x}</p>'],
)
def test_a_text_elsewhere_would_be_found(bad):
    assert SHOWN.search(bad)


def test_every_bundled_package_has_its_licence():
    named = json.loads((SOURCE / "package.json").read_text())["dependencies"]
    said = (BUILT / "LICENSES.txt").read_text()
    for name, version in named.items():
        assert re.search(rf"^{re.escape(name)} {re.escape(version)} \(\S.*\)$", said, re.M), name
    assert said.count("Copyright") >= len(named)


def test_packages_are_pinned_and_no_registry_is_named():
    described = json.loads((SOURCE / "package.json").read_text())
    pinned = [*described["dependencies"].values(), *described["devDependencies"].values()]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in pinned)
    locked = json.loads((SOURCE / "package-lock.json").read_text())["packages"]
    assert all("integrity" in one for place, one in locked.items() if place)
    assert not any("resolved" in one for one in locked.values())


def test_the_build_names_no_address_that_it_would_load_from():
    loads = re.compile(rb"(?:src|href)=[\"']?https?:|@import|url\([\"']?https?:|import\([\"']https?:")
    code = {name: one for name, one in _files(BUILT).items() if name != "LICENSES.txt"}
    assert [name for name, content in code.items() if loads.search(content)] == []
    named = re.findall(rb"https?://([\w.-]+)", b"".join(code.values()))
    # Names of XML's own spaces, and addresses that libraries print in messages: none is asked for.
    assert set(named) <= {b"www.w3.org", b"github.com", b"example.com"}


def test_the_index_runs_nothing_that_stands_in_it():
    said = (BUILT / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", said) == []
    assert re.findall(r"<style|\son\w+=|\sstyle=", said) == []
