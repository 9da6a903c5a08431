"""The first of a run's seven stages: whether its data are what was written, counted, and apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from textwrap import shorten
from typing import Any

from turnsmith import wheels
from turnsmith.data import read
from turnsmith.data.archive import Archive
from turnsmith.errors import StorageError, TurnsmithError
from turnsmith.recipes.audited import Finished, Stage
from turnsmith.shelf import file_digest
from turnsmith.stages.filter import silent
from turnsmith.types import Conversation, Example, Part

EARLIER = "made before this was recorded: make the data anew to have it checked"
Place = tuple[str, str]  # the artefact and which of its files


def prepared(done: Finished) -> Stage:
    """Stage 1: where the data came from, what was left out and why, and that no prompt is in two splits."""
    stage = Stage(1, "data preparation")
    files: dict[Place, Path] = {}
    for step in done.steps("data"):
        name = str(step["name"])
        if not step["sizes"]:
            continue
        _source(stage, step, done.directory)
        _balance(stage, step)
        files |= _files(stage, step, done.artefact(step))
        stage.settings[name] = {"format": step["format"]}
        stage.figures[name] = {"rows": step["rows"], "sizes": step["sizes"], "counts": step["counts"]}
    _apart(stage, done, files)
    return stage


def _source(stage: Stage, step: Mapping[str, Any], directory: Path) -> None:
    """Whether the file that was read is as it was."""
    name, expected = str(step["name"]), step.get("sha256")
    if expected is None:
        return
    reference = str(step["read"])
    stage.inputs[reference] = expected
    what = f"{name}: {reference} is as it was read"
    if wheels.shipped(reference) is not None or reference.startswith("pypi:"):
        stage.check(what, True, "it comes out of a package, whose hash is known")
        return
    try:
        now = read.fingerprint(read.locate(reference, directory))
    except TurnsmithError as error:
        stage.check(what, None, f"it cannot be looked at from here: {error}")
        return
    stage.check(
        what, now == expected, "" if now == expected else "it has changed since: run the recipe again"
    )


def _balance(stage: Stage, step: Mapping[str, Any]) -> None:
    """Whether rows and added examples are as many as what came out and what was left out with a reason."""
    rows, passed, counts = int(step["rows"]), step.get("passed"), step["counts"]
    what = f"{step['name']}: what went in came out, or was left out with a reason"
    if passed is None:
        stage.check(what, None, EARLIER)
        return
    out = sum(step["sizes"].values())
    steps = [*pairwise([*passed, out])]
    added = sum(max(0, after - before) for before, after in steps[:-1])
    lost = sum(max(0, before - after) for before, after in steps)
    told = sum(count for reason, count in counts.items() if reason.startswith("left out"))
    unread = sum((step.get("unread") or {}).values())
    fits = rows - unread == passed[0] and lost == told and steps[-1][0] >= out
    more = f" and {added:,} added" if added else ""
    stage.check(what, fits, f"{rows:,} rows{more}: {out:,} examples, {unread + lost:,} left out")


def _files(stage: Stage, step: Mapping[str, Any], place: Path) -> dict[Place, Path]:
    """Whether the examples on the shelf are those that were written, and say something; gives their files."""
    found: dict[Place, Path] = {}
    hashes, name = step.get("hashes"), str(step["name"])
    for file, size in (_named(step)).items():
        path = place / f"{file}.jsonl"
        what = f"{name}: the examples of {file} are those that were written"
        if not path.exists():
            stage.check(what, False, f"{path} is gone: run the recipe again")
            continue
        now = file_digest(path)
        stage.inputs[f"{step['artefact']}/{file}"] = now
        if hashes is None:
            stage.check(what, None, EARLIER)
        elif now != hashes[file]:
            stage.check(what, False, f"{path} has changed since: remove {place} and run the recipe again")
            continue
        try:
            examples = Archive([path])
            stage.check(what, len(examples) == size, f"{len(examples):,} of {size:,}")
            _said(stage, f"{name}, {file}", examples)
        except StorageError as error:
            stage.check(what, False, str(error))
            continue
        found[str(step["artefact"]), file] = path
    return found


def _named(step: Mapping[str, Any]) -> Mapping[str, int]:
    """How many examples each file of a step has; data that are not split are in one file, `all`."""
    sizes: Mapping[str, int] = step["sizes"]
    hashes = step.get("hashes") or {}
    split = hashes and set(hashes) == set(sizes)
    return sizes if split or (not hashes and len(sizes) > 1) else {"all": sum(sizes.values())}


def _said(stage: Stage, name: str, examples: Sequence[Example]) -> None:
    """How many examples are there twice, and in how many the assistant says nothing."""
    seen: set[int] = set()
    again = wordless = 0
    for example in examples:
        key = hash(repr(example.parts))
        again += key in seen
        seen.add(key)
        messages = (message for one in _conversations(example) for message in one.messages)
        wordless += any(map(silent, messages))
    stage.figures[f"{name}: said word for word before"] = again
    if wordless:
        said = f"{wordless:,} have none: the stage `answered` leaves such messages out, and counts them"
        stage.check(f"{name}: every message of the assistant says something", None, said)


def _apart(stage: Stage, done: Finished, files: Mapping[Place, Path]) -> None:
    """Whether no prompt is in two splits, nor both learnt from and measured on."""
    trained, measured = (_used(done, verb) for verb in ("train", "evaluate"))
    pairs = {
        tuple(sorted(pair))
        for pair in combinations(files, 2)
        if pair[0][0] == pair[1][0]
        or (pair[0] in trained and pair[1] in measured)
        or (pair[1] in trained and pair[0] in measured)
    }
    labels = {**trained, **measured}
    for place in sorted(trained.keys() & measured.keys()):
        stage.check(f"{labels[place]} is not both learnt from and measured on", False, "it is")
    prompts = {
        place: {key for key, _ in _prompts(files[place])} for place in {one for pair in pairs for one in pair}
    }
    for one, other in sorted(pairs):
        both = prompts[one] & prompts[other]
        what = f"no prompt of {labels.get(one, one[1])} is in {labels.get(other, other[1])}"
        first = next((said for key, said in _prompts(files[one]) if key in both), "")
        such = shorten(first, 60, placeholder="...")
        stage.check(what, not both, f"{len(both):,} are, such as {such!r}" if both else "")


def _used(done: Finished, verb: str) -> dict[Place, str]:
    """The files that steps of a verb were given, with the names of the data."""
    found: dict[Place, str] = {}
    for step in done.steps(verb):
        for name, held in step.get("given", {}).get("data", {}).items():
            found |= {(one["key"], one["file"]): name for one in held}
    return found


def _prompts(file: Path) -> Iterator[tuple[int, str]]:
    """The hash of every prompt that says something, with its words."""
    for example in Archive([file]):
        said = prompt(example)
        if said:
            yield hash(said), said


def prompt(example: Example) -> str:
    """What stands before the assistant's last words, without regard to case and spaces; all of what has no
    assistant. Images count by what they show. Of several conversations the first is taken."""
    first = next(_conversations(example))
    places = [place for place, message in enumerate(first.messages) if message.role == "assistant"]
    before = first.messages[: places[-1]] if places else first.messages
    lines = [" ".join(message.content.casefold().split()) for message in before]
    shown = [repr(message.images) for message in before if message.images]
    return "\n".join([*lines, *shown]) if any(lines) else ""


def _conversations(example: Example) -> Iterator[Conversation]:
    parts: list[Part] = list(example.parts.values())
    for part in parts:
        yield from part if isinstance(part, tuple) else (part,)
