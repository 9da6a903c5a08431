"""Work in other processes: in order, with their errors, and gone when it ends."""

import operator
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from turnsmith.data.processes import in_order
from turnsmith.data.read import locate
from turnsmith.errors import TrainingError, UsageError


def test_what_comes_is_in_the_order_of_the_tasks():
    tasks = [f"[__import__('time').sleep({seconds}), {seconds}][1]" for seconds in (0.5, 0.0, 0.1, 0.2)]
    assert list(in_order(eval, tasks, 2)) == [0.5, 0.0, 0.1, 0.2]


def test_no_task_needs_no_process():
    assert list(in_order(operator.neg, [], 4)) == []


def test_the_error_of_the_earliest_task_is_raised_here():
    with pytest.raises(UsageError, match="no data at 'first'"):
        list(in_order(locate, ["first", "second", "third"], 3))


def test_a_process_that_is_killed_is_said_and_not_waited_for():
    with pytest.raises(TrainingError, match=r"ended before its time .it was killed, perhaps since memory"):
        list(in_order(eval, ["__import__('os').kill(__import__('os').getpid(), 9)"], 1))


def test_what_a_process_prints_does_not_come_between(capfd):
    assert list(in_order(print, ["said"], 1)) == [None]
    assert capfd.readouterr() == ("", "said\n")


def test_processes_end_with_the_one_that_started_them():
    code = f"""if True:
        from turnsmith.data.processes import in_order
        import os
        for parent in in_order(eval, ["(print(__import__('os').getpid(), flush=True), 0)[1]"] * 2, 1):
            os.kill(os.getpid(), {int(signal.SIGKILL)})
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    number = int(done.stderr.split()[0])
    for _ in range(100):
        if not Path(f"/proc/{number}").exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"process {number} is still there")
