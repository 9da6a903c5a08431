"""Broken input to what reads files of others: every reader takes it or refuses it by an error of ours."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest

from turnsmith.errors import DataError

TOOLS = Path(__file__).resolve().parent.parent / "tools"
COUNTS = {
    "recipes": 40,
    "rows": 300,
    "formats": 300,
    "templates": 10,
    "checkpoints": 60,
    "archives": 60,
    "headers": 200,
}


@pytest.fixture(scope="module")
def fuzz():
    """tools/fuzz.py, which belongs to no package."""
    sys.path.insert(0, str(TOOLS))
    spec = importlib.util.spec_from_file_location("turnsmith_fuzz", TOOLS / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(TOOLS))


@pytest.mark.parametrize("name", COUNTS)
def test_only_errors_of_our_own_come_out(fuzz, name, tmp_path):
    counts = fuzz.fuzz(name, COUNTS[name], 1, tmp_path / "found")
    assert set(counts) <= {"taken", "refused"}
    assert counts.total() == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_most_of_what_inputs_are_made_of_is_taken(fuzz, name):
    corpus, reads = fuzz.TARGETS[name][1]()
    said = [fuzz.outcome(reads, given) for given in corpus]
    assert set(said) <= {"taken", "refused"}
    assert said.count("taken") > len(said) / 2


def test_every_target_is_tried(fuzz):
    assert list(COUNTS) == list(fuzz.TARGETS)


def test_what_a_reader_does_with_an_input_is_told_apart(fuzz, monkeypatch):
    def refuses(given):
        raise DataError("no")

    def breaks(given):
        raise KeyError("x")

    def hangs(given):
        while True:
            pass

    monkeypatch.setattr(fuzz, "LIMIT", 1)
    assert fuzz.outcome(lambda given: None, b"") == "taken"
    assert fuzz.outcome(refuses, b"") == "refused"
    assert fuzz.outcome(breaks, b"") == "KeyError: 'x'"
    assert fuzz.outcome(hangs, b"") == "Hangs: more than 1 s"


def test_a_failure_is_written_down_and_made_again_from_its_number(fuzz, monkeypatch, tmp_path):
    def breaks(given):
        raise KeyError("x")

    monkeypatch.setitem(fuzz.TARGETS, "breaks", (1.0, lambda: ([b"one and another"], breaks)))
    counts = fuzz.fuzz("breaks", 5, 7, tmp_path / "found")
    assert counts == {"KeyError: 'x'": 5}
    assert len(list((tmp_path / "found").iterdir())) == fuzz.KEPT
    rng = random.Random("7 breaks 2")
    rng.choice([b"one and another"])
    again = fuzz.mutated(b"one and another", [b"one and another"], rng)
    assert (tmp_path / "found" / "breaks-7-2").read_bytes() == again


def test_most_inputs_differ_from_what_they_were_made_of(fuzz):
    made = [fuzz.mutated(b"a sound text", [b"another"], random.Random(number)) for number in range(200)]
    assert 5 < made.count(b"a sound text") < 60
    assert len(set(made)) > 120
