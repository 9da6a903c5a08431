"""Talking in slices of time: a real terminal, in which typing interrupts."""

import io
import os
import sys

import pytest

from turnsmith.cli.live import Typed, converse
from turnsmith.errors import UsageError
from turnsmith.types import Message, Reply, Sampling, Usage

pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")


class Scripted:
    """Says these texts, and types these keys while it does: (text, keys) for each slice that it is asked."""

    def __init__(self, *script, keyboard=None):
        self.script, self.keyboard, self.asked = list(script), keyboard, []

    def stream(self, conversation, *, sampling=None, seed=0):
        self.asked.append([message.content for message in conversation.messages])
        text, keys = self.script.pop(0)
        for word in text.split():
            yield word + " "
        if keys:
            os.write(self.keyboard, keys)
        return Reply(Message("assistant", text), "stop", Usage(1, 1))


@pytest.fixture
def keyboard(monkeypatch):
    """Writes to the terminal that is the input now."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "r") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        yield master
    os.close(master)


def talk(chat, **options):
    said = converse(chat, sampling=Sampling(), **{"seconds": 0.02, **options})
    return [message.content for message in said.messages]


def test_what_is_typed_while_the_model_speaks_is_said_in_the_next_slice(keyboard, capsys):
    before = termios.tcgetattr(sys.stdin)
    os.write(keyboard, b"what is red\n")
    chat = Scripted(
        ("", b""),
        ("red is", b"no, wa"),
        ("a colour", b"it\n"),
        ("", b""),
        ("yes", b""),
        ("", b"\x04"),
        keyboard=keyboard,
    )
    said = talk(chat)
    # Of what is typed while it says "red is", the finished word is said in the next slice, the other after
    assert chat.asked[:4] == [
        ["what is red"],
        ["what is red", "", ""],
        ["what is red", "", "", "red is", "no,"],
        ["what is red", "", "", "red is", "no,", "a colour", "wait"],
    ]
    assert said == ["what is red", "", "", "red is", "no,", "a colour", "wait", "", "", "yes"]
    shown = capsys.readouterr().out
    assert [line for line in ("you: what is red", "model: red is", "you: no,") if line not in shown] == []
    assert termios.tcgetattr(sys.stdin) == before


def test_the_terminal_is_as_before_after_an_error_too(keyboard):
    before = termios.tcgetattr(sys.stdin)

    class Broken:
        def stream(self, conversation, *, sampling=None, seed=0):
            assert termios.tcgetattr(sys.stdin) != before  # keys come one by one
            raise UsageError("it will not do")
            yield

    os.write(keyboard, b"hello\n")
    with pytest.raises(UsageError, match="it will not do"):
        talk(Broken())
    assert termios.tcgetattr(sys.stdin) == before


def test_without_a_terminal_each_line_is_a_slice_and_silence_follows(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n\nwait\n"))
    chat, shown = Scripted(("", b""), ("hi there", b""), ("", b""), ("what", b""), ("", b"")), []
    said = talk(chat, show=shown.append)
    assert said == ["hello", "", "", "hi there", "wait", "", "", "what"]
    assert [one.strip() for one in shown] == ["", "hi there", "", "what", ""]


def test_who_never_falls_silent_is_left_after_some_slices():
    chat = Scripted(*[("more", b"")] * 17)
    assert talk(chat, say=["hello"], show=lambda _: None) == ["hello", "more", *["", "more"] * 16]
    assert chat.script == []


@pytest.mark.parametrize(
    ("keys", "said", "left"),
    [
        ("what is a", "what is", "a"),
        ("what is a\n", "what is a", ""),
        ("ab\x7fc d", "ac", "d"),
        ("\x7f\x7f", "", ""),
        ("a\x1b[Ab\x1bOC c", "abC", "c"),  # arrows write nothing
        ("a\r", "a", ""),
        ("<idle> ", "<idle>", ""),
    ],
)
def test_words_that_are_finished_are_taken(keys, said, left):
    typed = Typed()
    typed.feed(keys)
    assert (typed.take(), typed.text) == (said, left)


def test_seconds_that_are_none_are_refused():
    with pytest.raises(UsageError, match="has to be above 0"):
        talk(Scripted(), seconds=0.0)


def test_a_reply_of_no_tokens_is_refused_and_not_taken_for_the_default():
    from turnsmith.cli.chat import command

    with pytest.raises(UsageError, match="max_new"):
        command(["anything"], max_new=0, say=["hello"])
