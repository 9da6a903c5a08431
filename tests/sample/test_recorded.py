"""A file of replies that only grows: shared by processes, and whole however a process ends."""

import json
import subprocess
import sys

from turnsmith.sample.recorded import Recorded

MANY = """
import sys
from pathlib import Path
from turnsmith.sample.recorded import Recorded
file, name = sys.argv[1:]
recorded = Recorded(Path(file))
for number in range(200):
    recorded.add(f"{name}{number}", {}, {"said": name * 500})
"""


def test_processes_may_share_the_file(tmp_path):
    file = tmp_path / "replies" / "one.jsonl"
    command = [sys.executable, "-c", MANY, str(file)]
    ones = [subprocess.Popen([*command, name]) for name in "ab"]
    assert [one.wait() for one in ones] == [0, 0]
    # An empty line, which is not read, stands where one process saw the other's line half written.
    rows = [json.loads(line) for line in file.read_text().splitlines() if line]
    assert {row["key"] for row in rows} == {f"{name}{number}" for name in "ab" for number in range(200)}
    assert Recorded(file).get("b7") == {"said": "b" * 500}


def test_what_another_process_adds_is_seen(tmp_path):
    one, other = Recorded(tmp_path / "a.jsonl"), Recorded(tmp_path / "a.jsonl")
    assert one.get("k") is None
    other.add("k", {"q": 1}, {"said": "yes"})
    assert one.get("k") == {"said": "yes"}


def test_a_line_that_was_torn_is_not_read_and_does_not_tear_the_next(tmp_path):
    file = tmp_path / "a.jsonl"
    Recorded(file).add("whole", {}, {"said": 1})
    with file.open("a") as opened:
        opened.write('{"key": "torn", "asked": {}, "sa')
    recorded = Recorded(file)
    assert recorded.get("torn") is None
    recorded.add("next", {}, {"said": 2})
    fresh = Recorded(file)
    assert [fresh.get(key) for key in ("whole", "torn", "next")] == [{"said": 1}, None, {"said": 2}]


def test_only_its_owner_may_read_it(tmp_path):
    Recorded(tmp_path / "a.jsonl").add("k", {}, {})
    assert (tmp_path / "a.jsonl").stat().st_mode & 0o077 == 0
