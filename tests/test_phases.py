"""Where a run is: what is written when phases begin and end."""

import os
from datetime import UTC, datetime

import pytest

from turnsmith.phases import LOG, each, phase


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """The lines so far, split into words."""
    monkeypatch.setenv(LOG, str(tmp_path / "log"))
    return lambda: [line.split() for line in (tmp_path / "log").read_text().splitlines()]


def test_a_line_says_when_and_where_a_phase_begins_and_ends(lines):
    with phase("outer"), phase("inner"):
        pass
    found = lines()
    assert [" ".join(words[2:]) for words in found] == [
        "begin outer",
        "begin inner",
        "end inner",
        "end outer",
    ]
    assert {words[1] for words in found} == {str(os.getpid())}
    times = [datetime.fromisoformat(words[0]) for words in found]
    assert times == sorted(times)
    assert all(abs((datetime.now(UTC) - time).total_seconds()) < 60 for time in times)


def failing():
    with phase("step"):
        raise ValueError("x")


def test_a_phase_ends_where_it_fails(lines):
    with pytest.raises(ValueError, match="x"):
        failing()
    assert [words[2] for words in lines()] == ["begin", "end"]


def test_each_number_is_a_phase_that_ends_before_the_next_begins(lines):
    seen = []
    for number in each("step", range(2)):
        seen.append((number, len(lines())))
    assert seen == [(0, 1), (1, 3)]
    assert [" ".join(words[2:]) for words in lines()] == ["begin step", "end step"] * 2


def test_nothing_is_written_unless_a_file_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv(LOG, raising=False)
    monkeypatch.chdir(tmp_path)
    with phase("step"):
        pass
    assert list(tmp_path.iterdir()) == []
