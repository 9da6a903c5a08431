"""Ctrl-C: the first is remembered, the second stops at once, and the handlers go back."""

import os
import signal
import threading

import pytest

from turnsmith.train.stop import gently


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_asks(number, capsys):
    with gently() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
    assert "stopping after this step; once more to stop at once" in capsys.readouterr().err


def test_the_second_signal_stops_at_once():
    with gently():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def fail_gently():
    with gently():
        raise ValueError("x")


def test_the_handlers_from_before_are_back_afterwards_whatever_happened():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with gently():
        assert signal.getsignal(signal.SIGINT) != before[0]
    with pytest.raises(ValueError, match="x"):
        fail_gently()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_where_python_allows_no_handlers_nothing_is_asked():
    seen = []

    def work():
        with gently() as stop:
            seen.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
