"""A run's figures: two files that a kill cannot harm, and a line or bar for whoever watches."""

from __future__ import annotations

import json
import math
import resource
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from turnsmith.shelf import write_text, writing

METRICS = "metrics.jsonl"  # the same bytes whenever the same run is repeated
CLOCK = "clock.jsonl"  # what differs from machine to machine
WATCHED = "watch.jsonl"  # what tasks measured meanwhile, where any were asked to
WHOLE = ("step", "total", "tokens", "supervised", "slots")
RECENT = 20  # steps over which speeds are averaged
EVERY = 10.0  # seconds between lines where nobody looks at a terminal
KEEP = 0.9  # share of the old value in the smoothed loss


class Record:
    """The figures of one run: METRICS and CLOCK in `directory`, a line per step, on disk after every step.

    A value that is no finite number is written as null. quiet: files only. console: where progress is shown,
    standard error where None; a bar on a terminal, else a line every 10 seconds of work and at the end.
    Raises StorageError where the disk is full. With several processes only the main one may have a Record.
    """

    def __init__(
        self, directory: Path, *, title: str, quiet: bool = False, console: Console | None = None
    ) -> None:
        self.directory = directory
        self.pace = Pace()
        self.console = None if quiet else console or Console(stderr=True)
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.title = title
        self.unsaid: str | None = None
        self.since = 0.0

    def __enter__(self) -> Record:
        if self.console is not None and self.console.is_terminal:
            self.bar = Progress(*_columns(), console=self.console)
            self.task = self.bar.add_task(self.title, total=None, figures="")
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
        elif self.unsaid is not None:
            self._say(self.unsaid)

    def step(self, values: Mapping[str, float]) -> None:
        """Keep the figures of one step and show where the run is."""
        clock = {
            "step": values["step"],
            "seconds": values.get("seconds", 0.0),
            "memory_gib": peak_memory_gib(),
        }
        device = peak_device_memory_gib()
        if device is not None:
            clock["device_memory_gib"] = device
        metrics = {name: value for name, value in values.items() if name != "seconds"}
        _append(self.directory / METRICS, {"step": values["step"], **metrics})
        _append(self.directory / CLOCK, clock)
        self.pace.add(values)
        if self.console is not None:
            self._show(values, clock)

    def rewind(self, step: int) -> None:
        """Forget all after `step`; a line that a kill tore goes too."""
        for name in (METRICS, CLOCK, WATCHED):
            forget(self.directory / name, step)
        self.pace = Pace()
        self.unsaid, self.since = None, 0.0
        if self.bar is not None:
            self.bar.update(self.task, completed=step)

    def _show(self, values: Mapping[str, float], clock: Mapping[str, float]) -> None:
        figures = self.pace.describe(values, clock.get("device_memory_gib", clock["memory_gib"]))
        total = values.get("total")
        if self.bar is not None:
            self.bar.update(self.task, completed=values["step"], total=total, figures=figures)
            return
        self.unsaid = figures
        self.since += clock["seconds"]
        if self.since >= EVERY or values["step"] == total:
            self._say(figures)

    def _say(self, figures: str) -> None:
        assert self.console is not None
        self.console.print(f"{self.title}: {figures}", markup=False, highlight=False, soft_wrap=True)
        self.unsaid, self.since = None, 0.0


class Unrecorded:
    """The figures of a process that another one records."""

    def step(self, values: Mapping[str, float]) -> None:
        """Nothing is kept."""

    def rewind(self, step: int) -> None:
        """Nothing is there."""


class Pace:
    """The smoothed loss, and speeds over the last steps."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.seen = 0
        self.recent: deque[dict[str, float]] = deque(maxlen=RECENT)

    def add(self, values: Mapping[str, float]) -> None:
        """One more step."""
        loss = values.get("loss", math.nan)
        if math.isfinite(loss):
            self.loss = KEEP * self.loss + (1 - KEEP) * loss
            self.seen += 1
        names = ("seconds", "tokens", "supervised", "slots")
        self.recent.append({name: values.get(name, 0.0) for name in names})

    def smoothed(self) -> float:
        """The exponential mean of the losses, without the bias to 0 at the start; nan before the first."""
        return self.loss / (1 - KEEP**self.seen) if self.seen else math.nan

    def describe(self, values: Mapping[str, float], memory_gib: float) -> str:
        """Where the run is, in one line; what matters most comes first, a narrow terminal cuts the end."""
        seconds, tokens, supervised, slots = (
            sum(step[name] for step in self.recent) for name in ("seconds", "tokens", "supervised", "slots")
        )
        step, total = int(values["step"]), int(values.get("total", values["step"]))
        said = [f"step {step}/{total}", f"loss {self.smoothed():.3f}"]
        if seconds > 0:
            said.append(f"{_clock(seconds / len(self.recent) * (total - step))} left")
            said.append(f"{supervised / seconds:,.0f} supervised of {tokens / seconds:,.0f} tokens/s")
        if "lr" in values:
            said.append(f"lr {values['lr']:.1e}")
        if slots > 0:
            said.append(f"padding {1 - tokens / slots:.0%}")
        return ", ".join([*said, f"{memory_gib:.1f} GiB"])


def peak_memory_gib() -> float:
    """The most main memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 2**30  # macOS counts bytes, Linux KiB


def peak_device_memory_gib() -> float | None:
    """The most memory of the accelerator that tensors have held; None where CUDA is not in use."""
    torch: Any = sys.modules.get("torch")  # where nobody has loaded it, nobody has used a device
    if torch is None or not torch.cuda.is_initialized():
        return None
    return float(torch.cuda.max_memory_allocated() / 2**30)


def _append(path: Path, row: Mapping[str, float]) -> None:
    """One line more, handed to the system before this returns."""
    plain = {name: _plain(name, value) for name, value in row.items()}
    with writing(path), path.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(plain, ensure_ascii=False) + "\n")


def _plain(name: str, value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if name in WHOLE else float(value)


def forget(path: Path, step: int) -> None:
    """Keep the whole rows up to `step`, by an atomic rewrite where anything goes."""
    with writing(path):
        if not path.exists():
            return
        lines = path.read_text("utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _upto(line, step)]
    if len(kept) < len(lines):
        write_text(path, "".join(kept))


def _upto(line: str, step: int) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and isinstance(row.get("step"), int) and row["step"] <= step


def _clock(seconds: float) -> str:
    """
    >>> _clock(75), _clock(3725)
    ('1:15', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _columns() -> tuple[TextColumn | BarColumn, ...]:
    figures = TextColumn(
        "{task.fields[figures]}",
        markup=False,
        table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
    )
    return TextColumn("{task.description}", markup=False), BarColumn(bar_width=16), figures
