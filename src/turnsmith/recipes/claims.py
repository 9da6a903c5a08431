"""Judging a recipe's claim: all its seeds, its control, one verdict for each statement."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from turnsmith import wheels
from turnsmith.errors import UsageError
from turnsmith.recipes import FOLDER, components, keeping, schema
from turnsmith.recipes.pruning import claimed
from turnsmith.recipes.run import Runner, Say
from turnsmith.recipes.schema import Arm, Recipe
from turnsmith.recipes.summary import machine
from turnsmith.recipes.verdict import judge, named, said
from turnsmith.registry import Registry
from turnsmith.shelf import Shelf, write_text
from turnsmith.types import is_list

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judging:
    """What all runs of one claim share. to: the directory of their reports."""

    name: str
    plain: Mapping[str, Any]
    registry: Registry
    to: Path
    say: Say
    near: Path | None = None
    tiny: bool = False


def shipped() -> list[str]:
    """The recipes that come with Turnsmith and claim something, by name."""
    names = sorted(file.stem for file in FOLDER.glob("*.yaml"))
    texts = {name: schema.find(name).read_text("utf-8") for name in names}
    return [name for name, text in texts.items() if schema.parse(text, name).get("claim")]


def claims(
    recipe: str | Path,
    *,
    use: Sequence[Path | str] = (),
    to: Path | str = "runs/claims",
    tiny: bool = False,
    say: Say | None = None,
) -> list[Row]:
    """Run every seed of a recipe and its control, and judge. Gives one row for each statement.

    recipe: a file, or the name of one that comes with Turnsmith. to: where the runs' reports go. The others
    as of `run`. The first seed runs as the recipe stands; the others, and the control, make and measure only
    what the claim rests on. What is on the shelf is not done again. Where the control shows the claim as
    well, the claim fails.
    """
    file, registry = schema.find(str(recipe)), components(use)
    plain = schema.parse(file.read_text("utf-8"), file.name)
    if not plain.get("claim"):
        raise UsageError(f"{file.name} claims nothing: give it a `claim`")
    plain.pop("seeds", None)  # the replicates stand in for them
    quiet: Say = say or (lambda text: None)
    judging = Judging(file.stem, plain, registry, Path(to) / file.stem, quiet, file.parent, tiny)
    found: list[Row] = []
    for arm in schema.arms(plain, file.name, registry, tiny=tiny):
        found += _judged(judging, arm)
    return found


def _judged(judging: Judging, arm: Arm) -> list[Row]:
    recipe = arm.recipe
    seeds = range(recipe.seed, recipe.seed + recipe.replicates)
    runs = [_run(judging, arm.name, {"seed": seed}, whole=seed == recipe.seed) for seed in seeds]
    controls = (
        [_run(judging, arm.name, {**recipe.control, "seed": s}) for s in seeds] if recipe.control else []
    )
    steps = [run["steps"] for run in runs]
    judged = _judge(judging, recipe, steps)
    without = _judge(judging, recipe, [run["steps"] for run in controls]) if controls else []
    too = bool(without) and all(one["verdict"] == "holds" for one in without)
    minutes = round(work([*steps, *(run["steps"] for run in controls)]) / 60, 1)
    here, today = _machine(), datetime.now(UTC).date().isoformat()
    found = []
    for number, (statement, row) in enumerate(zip(recipe.claim, judged, strict=True)):
        found.append(
            {
                "card": recipe.card,
                "recipe": judging.name,
                "method": " ".join(word for word in (judging.name, arm.name) if word),
                "claim": said(statement),
                "figure": row.get("difference"),
                "interval": [row.get("low"), row.get("high")],
                "n": row.get("n"),
                "seeds": recipe.replicates,
                "baseline": named(statement.against),
                "verdict": "fails" if too and row["verdict"] == "holds" else row["verdict"],
                "control": _figures(without[number]) if without else None,
                "command": f"turnsmith claims {judging.name}",
                "minutes": minutes,
                "date": today,
                "machine": here,
            }
        )
    return found


def _judge(judging: Judging, recipe: Recipe, steps: Sequence[Any]) -> list[dict[str, Any]]:
    return judge(recipe.claim, steps, Shelf(wheels.home() / "shelf"), tiny=judging.tiny)


def _run(judging: Judging, name: str, settings: Mapping[str, Any], *, whole: bool = False) -> dict[str, Any]:
    """One seed of the arm `name`, or of its control; gives what its run.json holds."""
    plain = schema.unshared(judging.plain)
    for path, value in settings.items():
        schema.assign(plain, path, value)
    arms = schema.arms(plain, judging.name, judging.registry, tiny=judging.tiny)
    recipe = next((one.recipe for one in arms if one.name == name), arms[0].recipe)
    kind = "control" if len(settings) > 1 else "seed"
    judging.say(f"{judging.name}{f' {name}' if name else ''}, {kind} {settings['seed']}")
    runner = Runner(
        Arm(name, recipe if whole else claimed(recipe, judging.registry)),
        judging.name,
        judging.to / name / f"{kind}-{settings['seed']}",
        judging.registry,
        f"turnsmith claims {judging.name}",
        judging.say,
        tiny=judging.tiny,
        near=judging.near,
    )
    return runner.run()


def work(runs: Sequence[Sequence[Mapping[str, Any]]]) -> float:
    """Seconds that everything took when it was made; what several runs or steps share counts once."""
    seconds: dict[str, float] = {}
    for step in (step for steps in runs for step in steps):
        if step["verb"] != "evaluate":
            seconds[step["artefact"]] = step["seconds"]
        for task in step.get("tasks", ()):
            seconds |= {key: task["seconds"][model] for model, key in task["measurements"].items()}
    return sum(seconds.values())


def record(file: Path, rows: Sequence[Row]) -> None:
    """Put the rows in place of what the file holds of the same recipes, ordered by card and recipe."""
    with keeping.hold_file(file):
        try:
            there = json.loads(file.read_text("utf-8")) if file.exists() else []
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} cannot be read as a list of results: {error}") from None
        if not is_list(there):
            raise UsageError(f"{file} holds no list of results")
        new = {row["recipe"] for row in rows}
        every = [*(row for row in there if row["recipe"] not in new), *rows]
        every.sort(key=lambda row: (row["card"] is not None, row["card"] or 0, row["recipe"]))
        write_text(file, json.dumps(every, indent=1, ensure_ascii=False) + "\n")


def _figures(row: Mapping[str, Any]) -> Row:
    interval = [row.get("low"), row.get("high")]
    return {"figure": row.get("difference"), "interval": interval, "verdict": row["verdict"]}


def _machine() -> str:
    here = machine()
    return f"{here['cores']} cores, {here['cpu']}, {here['memory_gib']:.0f} GiB, torch {here['torch']}"
