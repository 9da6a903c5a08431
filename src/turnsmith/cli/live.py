"""`turnsmith chat --live`: a conversation in slices of time, in which typing interrupts the model."""

from __future__ import annotations

import codecs
import os
import re
import select
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from turnsmith.errors import UsageError
from turnsmith.sample.live import IDLE, Live
from turnsmith.sample.talk import Streams
from turnsmith.types import Conversation, Message, Sampling

if TYPE_CHECKING:
    from rich.console import Console

SILENT = 16  # slices of the user's silence after which a conversation without a terminal ends
CONTROL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|.)?|[\x00-\x03\x05-\x07\x0b-\x1f]"
)  # keys that write nothing


@dataclass
class Typed:
    """What was typed and not yet said. ended: whether Ctrl-D was typed.

    >>> typed = Typed()
    >>> typed.feed("what is a fj")
    >>> typed.take(), typed.text  # a word that is not finished waits
    ('what is a', 'fj')
    """

    text: str = ""
    ended: bool = False

    def feed(self, keys: str) -> None:
        """Take in keys: backspace takes back, Enter finishes the last word, Ctrl-D ends."""
        for key in CONTROL.sub("", keys.replace("\r", "\n")):
            if key in "\x7f\b":
                self.text = self.text[:-1]
            elif key == "\x04":
                self.ended = True
            else:
                self.text += key

    def take(self) -> str:
        """The words that are finished, which are said now."""
        end = max(self.text.rfind(blank) for blank in " \n\t") + 1
        said, self.text = self.text[:end], self.text[end:]
        return " ".join(said.split())


@dataclass
class Conversing:
    """A live conversation with one chat. seed: each slice has one of its own."""

    chat: Streams
    sampling: Sampling
    seed: int = 0
    live: Live = field(default_factory=Live)
    slices: int = 0

    def slice(self, text: str) -> Generator[str]:
        """What the model says after one slice of the user's, in pieces."""
        self.slices += 1
        return self.live.stream(self.chat, text, sampling=self.sampling, seed=self.seed + self.slices)


def converse(
    chat: Streams,
    *,
    seconds: float,
    sampling: Sampling,
    seed: int = 0,
    system: str | None = None,
    say: Sequence[str] = (),
    show: Callable[[str], object] = print,
) -> Conversation:
    """Talk until the user leaves; gives what was said.

    say: the user's slices, where nobody types; without them, and without a terminal, each line of the input
    is one. `show` is then called with what the model says in each slice, and silence follows until it falls
    silent, for 16 slices at the most.
    """
    if not seconds > 0:
        raise UsageError(f"--live is {seconds} seconds, and has to be above 0")
    talk = Conversing(chat, sampling, seed)
    if system:
        talk.live.said = talk.live.said.then(Message("system", system))
    if say or not sys.stdin.isatty():
        for text in say or (line.strip() for line in sys.stdin):
            show("".join(talk.slice(text)))
        for _ in range(SILENT):
            if not talk.live.on:
                break
            show("".join(talk.slice(IDLE)))
    else:
        with suppress(KeyboardInterrupt), Keys() as keys:
            _typing(talk, keys, Screen(), seconds)
        print()
    return talk.live.said


def _typing(talk: Conversing, keys: Keys, screen: Screen, seconds: float) -> None:
    """Slice by slice until Ctrl-D: what was typed in the last one is said, and what is typed while the model
    speaks, in the next one."""
    screen.note(f"Type at any time; Enter finishes a word. Slices of {seconds:g} s. Ctrl-D leaves.")
    while not keys.typed.ended:
        end = time.monotonic() + seconds
        said = keys.typed.take()
        screen.add("you", said + " " if said else "", keys.typed.text)
        written = ""
        for piece in talk.slice(said):
            written += piece
            screen.add("model", piece, keys.typed.text)
            keys.read(0)
        screen.add("model", " " if written.strip() else "", keys.typed.text)
        while (left := end - time.monotonic()) > 0 and not keys.typed.ended:
            keys.read(left)
            screen.add("", "", keys.typed.text)


class Keys:
    """The keyboard, key by key; as it was before afterwards."""

    def __init__(self) -> None:
        self.typed, self._decoder = Typed(), codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self) -> Keys:
        try:
            import termios
            import tty
        except ImportError:
            raise UsageError(
                "--live needs a POSIX terminal: pipe one slice per line in, or use --say"
            ) from None
        self._before: list[Any] = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin, termios.TCSANOW)  # what was typed already stays
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import termios

        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    def read(self, seconds: float) -> None:
        """Take in what is typed next, if anything is within so many seconds."""
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        if ready:
            keys = os.read(sys.stdin.fileno(), 1024)
            self.typed.feed(self._decoder.decode(keys) if keys else "\x04")


class Screen:
    """What was said, a line for each time that the other speaks, and under it what is being typed."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console: Console = Console(highlight=False)
        self.speaker = self.line = ""
        self._drawn = ""

    def note(self, text: str) -> None:
        """A line of the program's own."""
        self.console.print(text, style="dim")

    def add(self, speaker: str, words: str, typing: str) -> None:
        """Somebody says these words; drawn anew only where something has changed."""
        if words:
            if speaker != self.speaker:
                self._commit()
            self.speaker, self.line = speaker, self.line + words
        shown = f"{self.speaker}: {self.line}" if self.line else ""
        bottom = f"> {typing}"
        if (state := f"{shown}\n{bottom}") != self._drawn:
            self._erase()
            self.console.file.write(state)
            self.console.file.flush()
            self._drawn = state

    def _commit(self) -> None:
        """Leave the line of who spoke before where it is."""
        if self.line:
            self._erase()
            self.console.file.write(f"{self.speaker}: {self.line.rstrip()}\n")
        self._drawn = self.line = ""

    def _erase(self) -> None:
        """Take back what was drawn last, however many rows it takes."""
        from rich.cells import cell_len

        if self._drawn:
            width = self.console.width
            rows = sum(max(-(-cell_len(line) // width), 1) for line in self._drawn.split("\n"))
            self.console.file.write("\r" + "\x1b[A" * (rows - 1) + "\x1b[J")
