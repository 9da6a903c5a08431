"""What a `data` step does once it is known that it has to be done."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith.data import formats, read
from turnsmith.data.split import BETWEEN, split
from turnsmith.errors import DataError
from turnsmith.shelf import write_text
from turnsmith.types import Example

if TYPE_CHECKING:
    from turnsmith.recipes.run import Runner
    from turnsmith.recipes.schema import Component, Data

WHOLE = "all"  # the file of data that are not split


def make(step: Data, runner: Runner, path: Path | None, directory: Path) -> dict[str, Any]:
    """Read rows of `path`, or take over what `from` names; run the stages, split, write. Gives the record."""
    counts: Counter[str] = Counter()
    if path is not None:
        examples, name = _read(step, runner, path, counts)
    else:
        assert step.given is not None
        examples, name = runner.examples(step.given), "turnsmith"
    rows = sum(counts.values()) + len(examples)
    for component in step.stages:
        examples = _put_through(component, runner, examples, counts)
    if not examples:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in counts.items())
        raise DataError(f"{step.read or step.given}: not one usable example ({reasons or 'it is empty'})")
    parts = {WHOLE: examples}
    if isinstance(step.name, dict):
        parts, between = split(examples, step.name, by=step.by, seed=step.seed)
        counts.update({BETWEEN: between} if between else {})
    for part, ones in parts.items():
        lines = [json.dumps(formats.to_row(one), ensure_ascii=False) for one in ones]
        write_text(directory / f"{part}.jsonl", "\n".join(lines) + "\n")
    return {
        "kind": "data",
        "format": name,
        "guessed": path is not None and step.format == "auto",
        "rows": rows,
        "counts": counts,
        "sizes": {part: len(ones) for part, ones in parts.items()},
    }


def load(file: Path, runner: Runner) -> list[Example]:
    """The examples that a data step wrote."""
    rows = [(str(row["meta"]["id"]), row) for _, row in read.rows(file)]
    return formats.examples(rows, "turnsmith", runner.registry, str(file))[0]


def _read(step: Data, runner: Runner, path: Path, counts: Counter[str]) -> tuple[list[Example], str]:
    rows = list(read.rows(path))
    name = step.format
    if name == "auto":
        name = formats.guess([row for _, row in rows[:1000]], runner.registry.entries("format"))
    examples, skipped = formats.examples(rows, name, runner.registry, str(path))
    counts.update({f"skipped: {reason}": count for reason, count in skipped.items()})
    return examples, name


def _put_through(
    component: Component, runner: Runner, examples: list[Example], counts: Counter[str]
) -> list[Example]:
    options = runner.registry.options("stage", component.name, component.options)
    kept = list(runner.registry.function("stage", component.name)(examples, **options))
    if not kept:
        raise DataError(f"the stage {component} left none of {len(examples):,} examples")
    if len(kept) < len(examples):
        counts[f"left out by {component}"] += len(examples) - len(kept)
    return kept
