"""A finished run looked at again: its seven stages, each checked against what is on the disk now.

A stage takes what an earlier one made; where that one fails, it fails too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from turnsmith.errors import UsageError
from turnsmith.recipes import deployed
from turnsmith.recipes.audit_data import prepared
from turnsmith.recipes.audit_models import environment, evaluated, initialised, tuned
from turnsmith.recipes.audited import Finished, Stage, finished

MONITORED = "monitor.json"  # what `serve/monitor.py` found of served traffic, beside run.json
RESTS_ON = {4: (1, 2, 3), 5: (1, 4), 6: (4,), 7: (4, 6)}  # the stages whose outcome a stage takes


def audit(directory: Path | str) -> dict[str, Any]:
    """The seven stages of the run that left its run.json in `directory`.

    Gives `recipe`, `state` (`fail` where a stage does, else `pass`) and `stages`: a list with number, name,
    state (pass, fail, or not done), checks (what, passed, said), inputs, settings and figures of each. Only
    reads, and trains nothing. Raises UsageError where there is no such run.
    """
    done = finished(Path(directory))
    stages = [
        prepared(done),
        initialised(done),
        environment(done),
        tuned(done),
        evaluated(done),
        handed_on(done),
        monitored(done),
    ]
    _chain(stages)
    return {
        "recipe": done.run.get("recipe"),
        "run": str(directory),
        "state": "fail" if any(stage.state == "fail" for stage in stages) else "pass",
        "stages": [{**asdict(stage), "state": stage.state} for stage in stages],
    }


def handed_on(done: Finished) -> Stage:
    """Stage 6: whether what was exported or served is the model of this run, with its files as they were."""
    stage = Stage(6, "deployment")
    models = {str(step["name"]): step.get("fingerprint") for step in done.steps("train")}
    for row in deployed.noted(done.directory):
        name, place, files = str(row["model"]), str(row["place"]), row.get("files")
        stage.inputs[f"{name} at {place}"] = row["fingerprint"]
        same = row["fingerprint"] == models.get(name)
        said = str(row["fingerprint"])[:16] if same else "it is of an earlier run: hand it on anew"
        stage.check(f"{place} ({row['way']}) is {name} of this run", same, said)
        if files is not None:
            now = deployed.hashes(Path(place)) if Path(place).is_dir() else {}
            said = "" if now == files else "they are not: export it again, or remove the line"
            stage.check(f"the files of {place} are as they were written", now == files, said)
    return stage


def monitored(done: Finished) -> Stage:
    """Stage 7: whether the report on served traffic beside the run rings no alarm."""
    stage, file = Stage(7, "monitoring"), done.directory / MONITORED
    if not file.exists():
        return stage
    try:
        report: Any = json.loads(file.read_text("utf-8"))
        alarms, turns = [str(alarm) for alarm in report["alarms"]], int(report["turns"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is broken ({error}): make it anew") from None
    stage.figures |= {key: value for key, value in report.items() if key != "alarms"}
    stage.check("served traffic was looked at", bool(turns), f"{turns:,} turns")
    stage.check("no alarm asks for a look or for training anew", not alarms, " ".join(alarms))
    return stage


def _chain(stages: Sequence[Stage]) -> None:
    """Let stages fail whose inputs come of one that did."""
    by_number: Mapping[int, Stage] = {stage.number: stage for stage in stages}
    for stage in stages:
        if stage.state == "not done":
            continue
        for number in RESTS_ON.get(stage.number, ()):
            if by_number[number].state == "fail":
                stage.check(f"stage {number}, which it rests on, holds", False, by_number[number].name)
