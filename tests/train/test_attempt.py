"""Who was killed cannot say so: the next attempt does."""

import json
import os
import signal

import pytest

from turnsmith.train.attempt import MARK, attempt
from turnsmith.train.stop import Interrupted


def killed(directory, act=lambda: None):
    """A process that takes up the training, and is killed in it as the kernel kills."""
    child = os.fork()
    if not child:
        with attempt(directory, lambda said: None):
            act()
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def told(directory):
    said: list[str] = []
    with attempt(directory, said.append):
        pass
    return said


def test_an_attempt_that_was_killed_is_told_of_once(tmp_path):
    killed(tmp_path)
    (said,) = told(tmp_path)
    assert said.startswith("the last attempt ended without a word before its first step, perhaps for want of")
    assert said.endswith("; beginning anew")
    assert told(tmp_path) == []


def test_it_says_how_far_it_came_what_it_held_and_from_where_this_one_goes_on(tmp_path):
    def act():
        rows = "".join(json.dumps({"step": n, "memory_gib": 1.0 + n}) + "\n" for n in (1, 2, 3))
        (tmp_path / "clock.jsonl").write_text(rows + '{"step": 4, "mem')

    killed(tmp_path, act)
    (said,) = told(tmp_path)
    assert "after step 3, perhaps for want of memory: it had held 4.0 GiB; beginning anew" in said


@pytest.mark.parametrize("raised", [None, Interrupted, RuntimeError])
def test_an_attempt_that_ended_by_itself_says_nothing_to_the_next(tmp_path, raised):
    if raised is None:
        assert told(tmp_path) == []
    else:
        with pytest.raises(raised), attempt(tmp_path, print):
            raise raised
    assert not (tmp_path / MARK).exists()
    assert told(tmp_path) == []


def test_of_several_processes_the_first_keeps_the_mark(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with attempt(tmp_path, print):
        assert not (tmp_path / MARK).exists()
