"""What benchmarks/dialogues.py promises: it gives figures only where both sides did the same work."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOB = {"count": 2, "turns": 5, "new": 8}  # 80 tokens are to be written


@pytest.fixture
def bench(monkeypatch):
    """The module, which runs itself as processes."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("dialogues")


def run(seconds, read=100, written=80, memory=1.0):
    return {"seconds": seconds, "read": read, "written": written, "peak_gib": memory, "device_gib": None}


def pair(ours, theirs):
    return {"turnsmith": ours, "transformers": theirs}


def test_all_tokens_are_written_by_both(bench):
    bench.agree(JOB, pair(run(1), run(1)))
    for runs in (pair(run(1, written=79), run(1)), pair(run(1), run(1, written=79))):
        with pytest.raises(SystemExit, match=r"tokens written are \d+ .* not 80"):
            bench.agree(JOB, runs)


def test_tokens_read_may_differ_by_a_twentieth(bench):
    bench.agree(JOB, pair(run(1, read=105), run(1)))
    for read in (94, 106):
        with pytest.raises(SystemExit, match=rf"more than 5%: {read} \(turnsmith\) and 100"):
            bench.agree(JOB, pair(run(1, read=read), run(1)))


def test_ratios_are_of_pairs(bench):
    """2 s against 1 s and 9 s against 3 s: 2 and 3 times as fast, 2.5 in the middle."""
    rows = [pair(run(1), run(2, memory=4.0)), pair(run(3), run(9, memory=4.0))]
    said = bench.ratio_line(rows).strip()
    assert said == "turnsmith is 2.50 times as fast (2.00 to 3.00, 2 pairs), memory 0.25"
    assert "60.0 dialogues/min" in bench.line("turnsmith", [run(1), run(3)], 2)  # 2 in 2 s


@pytest.mark.slow
def test_both_sides_hold_the_dialogues(bench, tmp_path, capsys):
    file = tmp_path / "found.json"
    small = ["--model", "tiny", "--count", "6", "--turns", "3", "--new", "8", "--rounds", "1"]
    bench.main([*small, "--threads", "1", "--folder", str(tmp_path), "--json", str(file)])
    (runs,) = json.loads(file.read_text())["rounds"]
    assert {one["written"] for one in runs.values()} == {6 * 3 * 8}
    assert "turnsmith is" in capsys.readouterr().out
