"""What a `data` step does once it is known that it has to be done."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith import seeds
from turnsmith.data import formats, read
from turnsmith.data.quarantine import FILE, Quarantine
from turnsmith.data.split import BETWEEN, split
from turnsmith.errors import DataError
from turnsmith.shelf import write_text
from turnsmith.types import Chat, Conversation, Example, Failure, Reply, Sampling

if TYPE_CHECKING:
    from turnsmith.recipes.run import Runner
    from turnsmith.recipes.schema import Component, Data

WHOLE = "all"  # the file of data that are not split


def make(step: Data, runner: Runner, path: Path | None, directory: Path, version: int) -> dict[str, Any]:
    """Read rows of `path`, or take over what `from` names; run the stages, split, write. Gives the record.

    version: the how-manieth data of this name these are; chats draw anew for each.
    """
    counts: Counter[str] = Counter()
    bad = Quarantine(directory / FILE) if step.bad_rows == "quarantine" else None
    if path is not None:
        examples, name = _read(step, runner, path, counts, bad)
    else:
        examples, name = runner.examples(step.given) if step.given else [], "turnsmith"
    rows = sum(counts.values()) + len(examples)
    for number, component in enumerate(step.stages):
        given = _given(component, runner, (step.names[0], version, number), step.seed)
        examples = _put_through(component, runner, examples, given, counts)
    if not examples:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in counts.items())
        named = step.read or step.given or "+".join(step.names)
        raise DataError(f"{named}: not one usable example ({reasons or 'it is empty'})")
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
        "bad_rows": FILE if bad and bad.counts else None,
        "sizes": {part: len(ones) for part, ones in parts.items()},
    }


def load(file: Path, runner: Runner) -> list[Example]:
    """The examples that a data step wrote."""
    rows = ((str(row["meta"]["id"]), row) for _, row in read.rows(file))
    return list(formats.examples(rows, "turnsmith", runner.registry, str(file), Counter()))


def _read(
    step: Data, runner: Runner, path: Path, counts: Counter[str], bad: Quarantine | None
) -> tuple[list[Example], str]:
    examples, name, skipped = formats.from_file(path, step.format, runner.registry, bad)
    counts.update({f"skipped: {reason}": count for reason, count in skipped.items()})
    counts.update(bad.counts if bad else {})
    return examples, name


def _given(component: Component, runner: Runner, key: tuple[str, int, int], seed: int) -> dict[str, Any]:
    """What a stage is given beside its options: its chats, and `rng` where it asks for one."""
    from turnsmith.recipes.measuring import chat

    entry = runner.registry.entry("stage", component.name)
    options = runner.registry.options("stage", component.name, component.options)
    asks = inspect.signature(runner.registry.function("stage", component.name)).parameters
    own = seeds.number(runner.recipe.seed, "chat", *key)
    found: dict[str, Any] = {
        name: Seeded(chat(runner.model(str(options[name])), runner), own) for name in entry.names("chats")
    }
    return found | ({"rng": seeds.stream(seed, "stage", key[-1], component.name)} if "rng" in asks else {})


class Seeded:
    """A chat whose draws depend on the run's seed, the data's name and version, and the stage."""

    def __init__(self, chat: Chat, seed: int) -> None:
        self.chat, self.seed = chat, seed

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        return self.chat(conversations, sampling=sampling, seed=seeds.number(self.seed, seed))


def _put_through(
    component: Component,
    runner: Runner,
    examples: list[Example],
    given: dict[str, Any],
    counts: Counter[str],
) -> list[Example]:
    function = runner.registry.function("stage", component.name)
    options = runner.registry.options("stage", component.name, component.options)
    own: Counter[str] = Counter()
    told = {"counts": own} if "counts" in inspect.signature(function).parameters else {}
    kept = list(function(examples, **{**options, **given, **told}))
    for reason, count in own.items():  # numbers differ from example to example, and the reason is the same
        counts[f"{component.name}: {re.sub('[0-9]+', 'N', reason)}"] += count
    if not kept:
        raise DataError(
            f"the stage {component} left none of {len(examples):,} examples ({dict(own) or 'no reason'})"
        )
    if len(kept) < len(examples):
        counts[f"left out by {component}"] += len(examples) - len(kept)
    return kept
