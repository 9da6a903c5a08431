"""A real run that is killed in the middle of a phase, and started again, ends as one that is left alone.

`make test-kill` kills at least ten times in each phase; two kills are among the fast tests. A kill counts if
the log of phases shows that the process died inside the phase, and that the phase had not ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from turnsmith.phases import LOG

KILLS = 10  # in each phase
PATIENCE = 1800.0  # seconds until a run that neither ends nor comes into the phase is given up
# Seconds, memory, and where the base of an adapter is.
NOT_COMPARED = {
    "clock.jsonl",
    "preparing.json",
    "arithmetic.json",
    "room.json",  # it is in the record
    "turnsmith.json",
    "adapter_config.json",
    "README.md",
}
OF_THE_DAY = (
    "seconds",
    "peak_memory_gib",
    "dtype_seconds",
    "energy_wh",
    "computed_on",
    "start",
)  # of a record

FIT = {"steps": 4, "batch": 8, "lr": 1e-2, "length": 64, "row": 128, "dtype": "float32", "checkpoint": 2}
LORA = {"lora": {"rank": 4, "dropout": 0.2}}
ANSWERS = {"answers": {"by": "policy", "reward": "fewest_tokens", "n": 2, "max_new": 4}}


def step(**options: Any) -> dict[str, Any]:
    """A `train` step of the model `policy`, with dropout, in packed rows."""
    return {"train": {"name": "policy", "trainable": LORA, "fit": FIT, **options}}


RECIPE = {
    "title": "Killed",
    "base": {"llama": {"layers": 2, "hidden": 32, "wide": 64}},
    "forgetting": False,
    "steps": [
        {"data": {"name": {"asks": 0.8, "held": 0.2}, "stages": [{"sums": {"count": 40, "most": 9}}]}},
        step(data="asks", validate_on="held", fit={**FIT, "evaluate": 2}),
        {
            "repeat": {
                "times": 2,
                "steps": [
                    {
                        "data": {
                            "name": "pairs",
                            "from": "held",
                            "stages": [{"respond": {"by": "policy", "max_new": 4}}],
                            "keep": 2,
                        }
                    },
                    step(start="policy", data="pairs", objective="spin", train_on="last"),
                ],
            }
        },
        step(
            start="policy",
            data="asks",
            objective="reinforce",
            train_on="last",
            fit={**FIT, "steps": 6},
            collect={"examples": 8, "epochs": 2, "stages": [ANSWERS]},
        ),
    ],
}
# Enough for two quick kills: a sampling stage and checkpoints.
SMALL = {
    **RECIPE,
    "steps": [
        RECIPE["steps"][0],
        step(data="asks", fit={**FIT, "steps": 6}),
        RECIPE["steps"][2]["repeat"]["steps"][0],
    ],
}


class Noted(NamedTuple):
    """A line of the log of phases."""

    process: int
    event: str
    name: str


@dataclass(frozen=True)
class Place:
    """A directory with a recipe, where runs of it happen, their shelf and their log."""

    directory: Path

    def begin(self, recipe: Mapping[str, Any]) -> subprocess.Popen[str]:
        """The command, as a person would type it, on two threads."""
        self.directory.mkdir(exist_ok=True)
        (self.directory / "killed.yaml").write_text(json.dumps(recipe))
        environment = {
            **os.environ,
            "TURNSMITH_HOME": str(self.directory / "home"),
            LOG: str(self.directory / "phases"),
            "OMP_NUM_THREADS": "2",
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin for each other crawl where cores are shared
        }
        said = (self.directory / "said").open("a")
        command = [sys.executable, "-m", "turnsmith", "run", "killed.yaml"]
        return subprocess.Popen(
            command, cwd=self.directory, env=environment, stdout=said, stderr=said, text=True
        )

    def logged(self) -> int:
        """Bytes of the log so far."""
        file = self.directory / "phases"
        return file.stat().st_size if file.exists() else 0

    def noted(self) -> list[Noted]:
        """The log so far, without a last line that is still being written."""
        file = self.directory / "phases"
        text = file.read_text() if file.exists() else ""
        words = (line.split() for line in text.splitlines(keepends=True) if line.endswith("\n"))
        return [Noted(int(process), event, name) for _, process, event, name in words]

    def finish(self, recipe: Mapping[str, Any]) -> None:
        """Run to the end."""
        assert self.begin(recipe).wait(PATIENCE) == 0, (self.directory / "said").read_text()

    def outcome(self) -> list[dict[str, Any]]:
        """Of each step: its hash, its files by their digest, its record without clock and memory."""
        found: list[dict[str, Any]] = []
        for step in json.loads((self.directory / "runs" / "killed" / "run.json").read_text())["steps"]:
            artefact = Path(step["path"])
            record = json.loads((artefact / "turnsmith.json").read_text())
            kept = {name: value for name, value in record.items() if not name.endswith(OF_THE_DAY)}
            if "room" in kept:
                del kept["room"]["peak"]  # it begins with what the process holds
            kept["artefact"] = step["artefact"]
            for file in sorted(path for path in artefact.rglob("*") if path.is_file()):
                if file.name not in NOT_COMPARED:
                    kept[str(file.relative_to(artefact))] = hashlib.sha256(file.read_bytes()).hexdigest()
            found.append(kept)
        return found


def inside(noted: Sequence[Noted], process: int) -> list[str]:
    """The phases that a process is in, the outermost first."""
    stack: list[str] = []
    for line in noted:
        if line.process == process and line.event == "begin":
            stack.append(line.name)
        elif line.process == process:
            assert stack.pop() == line.name
    return stack


def between_steps(noted: Sequence[Noted], process: int) -> bool:
    """Whether the process has ended the work of a step of the recipe, not the last, and begun no other."""
    mine = [line for line in noted if line.process == process]
    return bool(mine) and not inside(noted, process) and not any(line.name == "collect" for line in noted)


PHASES: dict[str, Callable[[Sequence[Noted], int], bool]] = {
    "data preparation": lambda noted, process: inside(noted, process) == ["data"],
    "sampling": lambda noted, process: inside(noted, process) == ["data", "sample"],
    "step": lambda noted, process: inside(noted, process) == ["train", "step"],
    "checkpoint write": lambda noted, process: inside(noted, process)[-1:] == ["checkpoint"],
    "online collection": lambda noted, process: "collect" in inside(noted, process),
    "between recipe steps": between_steps,
}


def kill(
    place: Place, recipe: Mapping[str, Any], phase: str, *, passes: int = 0, late: float = 0.0
) -> bool | None:
    """Start the run, kill it in the phase, and say whether it died there; None where it ended instead.

    passes: how often it may come through the phase before. late: seconds that it is left there; where it is
    over by then, the next one gets half of them.
    """
    process = place.begin(recipe)
    among, was, size, deadline = PHASES[phase], False, 0, time.monotonic() + PATIENCE
    while process.poll() is None:
        assert time.monotonic() < deadline, (place.directory / "said").read_text()
        time.sleep(0.001)
        if place.logged() == size:
            continue
        size = place.logged()
        now = among(place.noted(), process.pid)
        if now and not was:
            passes -= 1
        was = now
        if now and passes < 0:
            time.sleep(late)
            if among(place.noted(), process.pid):
                process.kill()
                break
            late /= 2
    if process.wait() == 0:
        return None
    assert process.returncode == -9, (place.directory / "said").read_text()
    return among(place.noted(), process.pid)


def killed_run(place: Place, phase: str, chance: random.Random) -> Iterator[bool]:
    """A run that is killed until it has ended; gives of every kill whether it counts."""
    while True:
        late = chance.random() * chance.choice((0.001, 0.02, 0.2))
        fell = kill(place, RECIPE, phase, passes=chance.choice((0, 0, 0, 1, 2)), late=late)
        if fell is None:
            return
        yield fell


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[dict[str, Any]]]:
    """What comes of a recipe, by name, where nobody disturbs the run."""
    found: dict[str, list[dict[str, Any]]] = {}

    def outcome(name: str) -> list[dict[str, Any]]:
        if name not in found:
            place = Place(tmp_path_factory.mktemp("alone"))
            place.finish({"small": SMALL, "whole": RECIPE}[name])
            found[name] = place.outcome()
        return found[name]

    return outcome


@pytest.mark.kill
@pytest.mark.parametrize("phase", PHASES)
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_left_alone(tmp_path, alone, capsys, phase):
    expected, chance, counted, missed, runs = alone("whole"), random.Random(phase), 0, 0, 0
    while counted < KILLS:
        place = Place(tmp_path / str(runs))
        for fell in killed_run(place, phase, chance):
            counted, missed = counted + fell, missed + (not fell)
            with capsys.disabled():
                print(f"\n{phase}: {counted} kills, {missed} fell elsewhere", end="", flush=True)
            assert missed <= 3 * KILLS
            if counted == KILLS:
                break
        place.finish(RECIPE)
        runs += 1
        assert place.outcome() == expected
    with capsys.disabled():
        print(f"\n{phase}: {counted} kills in {runs} runs, which ended with the same bits", flush=True)


def test_two_kills_change_nothing_of_what_comes_out(tmp_path, alone):
    place = Place(tmp_path / "killed")
    assert kill(place, SMALL, "checkpoint write", passes=1) or kill(place, SMALL, "checkpoint write")
    assert kill(place, SMALL, "sampling") or kill(place, SMALL, "sampling")
    place.finish(SMALL)
    assert place.outcome() == alone("small")
    assert [len(one) > 5 for one in alone("small")] == [True] * 3
    assert {"model/adapter_model.safetensors", "metrics.jsonl"} <= alone("small")[1].keys()
