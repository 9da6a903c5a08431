"""What benchmarks/data.py measures: memory that does not grow with the data."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from turnsmith.testing import directory

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("turnsmith_benchmark_data", ROOT / "benchmarks" / "data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chats(path, rows):
    """Rows that differ and have 200 characters each."""
    with path.open("w") as opened:
        for n in range(rows):
            said = [
                {"role": "user", "content": f"Tell me about {n}. " * 6},
                {"role": "assistant", "content": f"It is {n}. " * 8},
            ]
            opened.write(json.dumps({"messages": said}) + "\n")
    return path


@pytest.mark.slow
def test_three_times_the_data_take_the_same_memory(bench, tmp_path):
    """Within 10 %, all processes together: read, split, checked and tokenised through a recipe. Lists of the
    examples and tokens would take some 6 KB a row, 240 MB for the 40,000 rows that the second has more."""
    tiny = str(directory(tmp_path / "model"))
    peaks = [
        bench.measured(sys.executable, "check", chats(tmp_path / f"{rows}.jsonl", rows), 0, tiny)["peak"]
        for rows in (20_000, 60_000)
    ]
    assert peaks[1] < 1.1 * peaks[0]


def test_chats_are_the_same_for_everybody(bench, tmp_path, own_cache, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(own_cache))
    made = [bench.chats(50, tmp_path / name).read_bytes() for name in ("one", "other")]
    assert made[0] == made[1]
    rows = [json.loads(line) for line in made[0].decode().splitlines()]
    assert len({row["id"] for row in rows}) == 50
    assert all(row["messages"][-1]["role"] == "assistant" for row in rows)
    assert all(2 <= len(row["messages"]) <= 8 for row in rows)
