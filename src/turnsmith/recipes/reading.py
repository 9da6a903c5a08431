"""What a `data` step does once it is known that it has to be done."""

from __future__ import annotations

import inspect
import re
import shutil
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import compress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from turnsmith import seeds, wheels
from turnsmith.data import archive, formats, shares
from turnsmith.data.archive import Archive
from turnsmith.data.distinct import Distinct
from turnsmith.data.formats.guessing import Guess
from turnsmith.data.quarantine import FILE, Quarantine
from turnsmith.data.split import BETWEEN, NOWHERE, Keys, deal
from turnsmith.errors import DataError, UsageError
from turnsmith.models.answering import file_of, is_llamacpp
from turnsmith.models.endpoint import is_endpoint
from turnsmith.phases import phase
from turnsmith.recipes import wiring
from turnsmith.rollout.converse import Seeding
from turnsmith.sample.chat import Spelling
from turnsmith.shelf import file_digest
from turnsmith.types import Chat, Conversation, Example, Failure, Reply, Sampling

if TYPE_CHECKING:
    from turnsmith.recipes.run import Runner
    from turnsmith.recipes.schema import Component, Data

WHOLE = "all"  # the file of data that are not split


@phase("data")
def make(step: Data, runner: Runner, path: Path | None, directory: Path, version: int) -> dict[str, Any]:
    """Read rows of `path`, or take over what `from` names; run the stages, split, write. Gives the record.

    version: the how-manieth data of this name these are; chats draw anew for each. Examples pass one at a
    time from file to file: a stage, which may ask for any of them, has all of them in a file.
    """
    unread: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    _settle(step, runner)  # what was asked before is no part of this
    between = directory / "stages"
    between.mkdir(exist_ok=True)
    bad = Quarantine(directory / FILE) if step.bad_rows == "quarantine" else None
    keys = Keys(step.by) if isinstance(step.name, dict) else None
    last = between / "last.jsonl" if keys else directory / f"{WHOLE}.jsonl"
    made: list[Archive] = []
    chats: list[Seeded] = []
    examples: Iterable[Example] = ()
    if path is not None and shares.worth(path):
        first, noted = (between / "0.jsonl", None) if step.stages else (last, keys)
        looked_at = Quarantine(between / FILE) if bad else None
        guessed, _ = formats.stream(path, step.format, runner.registry, Counter(), looked_at)
        made.append(shares.write(path, first, guessed.name, runner.registry, unread, bad, noted))
        unread.update(bad.counts if bad else {})
    else:
        guessed, examples = _source(step, runner, path, unread, bad)
    for number, component in enumerate(step.stages):
        if number or not made:
            made.append(archive.write(between / f"{number}.jsonl", examples))
        own = seeds.number(runner.recipe.seed, "chat", step.names[0], version, number)
        rng = seeds.stream(step.seed, "stage", number, component.name)
        given = filled(component, runner, own, rng)
        chats += chats_of(given)
        examples = put_through(component, runner, made[-1], given, counts)
    if step.stages or not made:
        examples = distinct(examples, "+".join(step.names))
        made.append(archive.write(last, keys.noting(examples) if keys else examples))
    if not made[-1]:
        raise _empty(step, unread + counts)
    sizes = _deal_out(made[-1], step, keys, directory, counts) if keys else {WHOLE: len(made[-1])}
    shutil.rmtree(between)
    return {
        "kind": "data",
        "format": guessed.name,
        "guessed": path is not None and step.format == "auto",
        "why": guessed.why,
        "rows": len(made[0]) + unread.total(),
        "unread": unread,
        "passed": [len(one) for one in made],  # examples behind the reading and behind each stage
        "hashes": {name: file_digest(directory / f"{name}.jsonl") for name in sizes},
        "counts": unread + counts,
        "usage": {name: sum(chat.used[name] for chat in chats) for name in ("prompt", "completion")},
        "computed_on": _computed_on(chats),
        "flops": sum(2.0 * chat.parameters * chat.used.total() for chat in chats),
        "bad_rows": FILE if bad and bad.counts else None,
        "spent": _settle(step, runner),
        "sizes": sizes,
    }


def _computed_on(chats: Sequence[Seeded]) -> dict[str, Any] | None:
    """On what the models of this machine drew; None where there were none."""
    if not any(chat.parameters for chat in chats):
        return None
    from turnsmith.train.place import arithmetic, computed_on  # which loads torch, as they have

    return computed_on(arithmetic("auto", wheels.home() / "arithmetic.json")[1])


def _settle(step: Data, runner: Runner) -> dict[str, dict[str, Any]]:
    """What the step's chats have asked of endpoints since this was last looked at."""
    from turnsmith.recipes.measuring import settle  # which loads torch

    entries = [runner.registry.entry("stage", component.name) for component in step.stages]
    return settle(runner) if any(entry.names("chats") for entry in entries) else {}


def _empty(step: Data, counts: Counter[str]) -> DataError:
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in counts.items())
    named = step.read or step.given or "+".join(step.names)
    return DataError(f"{named}: not one usable example ({reasons or 'it is empty'})")


def _source(
    step: Data, runner: Runner, path: Path | None, unread: Counter[str], bad: Quarantine | None
) -> tuple[Guess, Iterable[Example]]:
    """The format of what the step starts from, and its examples. Rows that become none are in `unread` once
    all were read."""
    if path is None:
        return Guess("turnsmith", (), "as a step made them"), runner.examples(
            step.given
        ) if step.given else ()
    skipped: Counter[str] = Counter()
    guessed, examples = formats.stream(path, step.format, runner.registry, skipped, bad)

    def read() -> Iterator[Example]:
        yield from examples
        unread.update({f"skipped: {reason}": count for reason, count in skipped.items()})
        unread.update(bad.counts if bad else {})

    return guessed, read()


def distinct(examples: Iterable[Example], names: str) -> Iterator[Example]:
    """The examples, as long as no two have one id."""
    seen = Distinct()
    for example in examples:
        if not seen.add(example.id):
            raise DataError(f"{names}: two examples have the id {example.id!r}; ids must differ")
        yield example


def _deal_out(data: Archive, step: Data, keys: Keys, directory: Path, counts: Counter[str]) -> dict[str, int]:
    """Write each split into its own file. Gives their sizes."""
    assert isinstance(step.name, dict)
    sides = deal(keys, step.name, step.seed)
    left = int((sides == NOWHERE).sum())
    counts.update({BETWEEN: left} if left else {})
    sizes: dict[str, int] = {}
    for number, part in enumerate(step.name):
        lines = compress(data.lines(0, len(data)), sides == number)
        sizes[part] = len(archive.write_lines(directory / f"{part}.jsonl", lines))
    return sizes


def filled(
    component: Component,
    runner: Runner,
    seed: int,
    rng: Random,
    live: Mapping[str, tuple[Chat, int]] | None = None,
) -> dict[str, Any]:
    """What a stage is given: its options with their chats and scorers, and `rng` where it asks for one.

    seed: of what chats draw. live: models in memory that names mean, with the numbers that each holds.
    """
    from turnsmith.recipes.measuring import chat

    entry = runner.registry.entry("stage", component.name)
    asks = inspect.signature(runner.registry.function("stage", component.name)).parameters

    def seeded(name: str) -> Seeded:
        if live and name in live:
            return Seeded(live[name][0], seed, live[name][1])
        model = runner.model(name)
        return Seeded(chat(model, runner), seed, _parameters(model.reference))

    found = wiring.filled("stage", component, runner, seeded)
    for name in entry.names("chats"):
        if not isinstance(found[name], Seeded | None):  # an agent
            found[name] = Seeded(found[name], seed, 0)
    return found | ({"rng": rng} if "rng" in asks else {})


def chats_of(given: Mapping[str, Any]) -> list[Seeded]:
    """The chats among what a stage is given."""
    return [chat for chat in given.values() if isinstance(chat, Seeded)]


def _parameters(reference: str) -> int:
    """What a model computes with here; one behind an endpoint computes elsewhere."""
    from turnsmith.models import llamacpp, load

    if is_endpoint(reference):
        return 0
    return llamacpp.parameters(file_of(reference)) if is_llamacpp(reference) else load.parameters(reference)


class Seeded:
    """A chat whose draws depend on the run's seed, the data's name and version, and the stage.

    used: tokens of prompts that it read and of completions that it wrote, two operations each for each of
    the model's parameters.
    """

    def __init__(self, chat: Chat, seed: int, parameters: int) -> None:
        self.chat, self.seed, self.parameters = chat, seed, parameters
        self.used: Counter[str] = Counter()

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        return self._counted(self.chat(conversations, sampling=sampling, seed=self._own(seed)))

    def by_seeds(
        self, conversations: Sequence[Conversation], *, seeds: Sequence[int], sampling: Sampling | None = None
    ) -> list[Reply | Failure]:
        """The same with a seed for each conversation; an agent that takes but one gets one made of all."""
        if not isinstance(self.chat, Seeding):
            return self._counted(self.chat(conversations, sampling=sampling, seed=self._own(*seeds)))
        own = [self._own(seed) for seed in seeds]
        return self._counted(self.chat.by_seeds(conversations, seeds=own, sampling=sampling))

    def spelled(self, ids: Sequence[int]) -> list[str]:
        """What each of the tokens that the chat drew stands for. Raises UsageError where it cannot say."""
        if not isinstance(self.chat, Spelling):
            raise UsageError("this stage goes by single tokens: name a model that is loaded here")
        return self.chat.spelled(ids)

    @contextmanager
    def remembering(self) -> Generator[None]:
        """Calls within go on from what earlier ones have read, where the chat can do that."""
        with getattr(self.chat, "remembering", nullcontext)():
            yield

    def anew(self, seed: int) -> None:
        """Draw by another seed from now on, and count from zero."""
        self.seed, self.used = seed, Counter()

    def _own(self, *given: int) -> int:
        return seeds.number(self.seed, *given)

    def _counted(self, replies: list[Reply | Failure]) -> list[Reply | Failure]:
        for reply in replies:
            if isinstance(reply, Reply):
                self.used.update(prompt=reply.usage.prompt, completion=reply.usage.completion)
        return replies


def put_through(
    component: Component,
    runner: Runner,
    examples: Sequence[Example],
    given: dict[str, Any],
    counts: Counter[str],
) -> Iterator[Example]:
    """What the stage makes of the examples. What it leaves out is in `counts` once all was taken."""
    function = runner.registry.function("stage", component.name)
    own: Counter[str] = Counter()
    told = {"counts": own} if "counts" in inspect.signature(function).parameters else {}
    kept = 0
    for example in function(examples, **given, **told):
        kept += 1
        yield example
    for reason, count in own.items():  # numbers differ from example to example, and the reason is the same
        counts[f"{component.name}: {re.sub('[0-9]+', 'N', reason)}"] += count
    if not kept:
        raise DataError(
            f"the stage {component} left none of {len(examples):,} examples ({dict(own) or 'no reason'})"
        )
    if kept < len(examples):
        counts[f"left out by {component}"] += len(examples) - kept
