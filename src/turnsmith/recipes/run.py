"""Carries out one arm of a recipe: every step is an artefact, made once and found again by its hash."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from turnsmith import ranks, seeds, wheels
from turnsmith.errors import StorageError, UsageError
from turnsmith.models.answering import file_of, is_llamacpp
from turnsmith.models.endpoint import endpoint, is_endpoint
from turnsmith.recipes import files, keeping, telling, wiring
from turnsmith.recipes.component import bare
from turnsmith.recipes.schema import Arm, Combine, Component, Data, Evaluate, Merge, Step, Train, flat
from turnsmith.recipes.summary import glimpse, provenance, resolved, summarise
from turnsmith.registry import Kind, Registry, bound, suggest
from turnsmith.shelf import Shelf, digest, write_text, writing
from turnsmith.train.options import Fit

if TYPE_CHECKING:
    from turnsmith.data.archive import Archive
    from turnsmith.evaluation.suite import Subject

Say = Callable[[str], None]
# Options of fit that do not change what comes out. `nonfinite` does only where nothing would come out
# otherwise: so who was stopped can go on, leaving the step out.
NOT_HASHED = ("trackers", "checkpoint", "nonfinite", "shard")
SILENT = ("patience",)  # options that came later: without them what was made before is what it was


@dataclass(frozen=True, slots=True)
class Held:
    """Data on the shelf: the artefact's key and which of its files."""

    key: str
    file: str


@dataclass(frozen=True, slots=True)
class Trained:
    """A model: a reference that can be loaded, and the hash that stands for it."""

    reference: str
    fingerprint: str


T = TypeVar("T")


def newest(versions: Mapping[str, Sequence[T]], name: str) -> T:
    """The newest version of a name, or that which `name@N` says, counted from 1."""
    base, _, number = name.partition("@")
    made = versions[base]
    if number and not (number.isdecimal() and 1 <= int(number) <= len(made)):
        raise UsageError(f"{name}: there are the versions 1 to {len(made)} of {base!r} at this step")
    return made[int(number) - 1 if number else -1]


def _decisive(fit: Fit) -> dict[str, Any]:
    """The options of a fit that what comes out depends on; of those in SILENT only what is not 0."""
    found = {name: value for name, value in asdict(fit).items() if name not in NOT_HASHED}
    return {name: value for name, value in found.items() if value or name not in SILENT}


def in_suite(name: str, suite: Sequence[Component]) -> Component:
    """The task as the suite has it, or with its defaults."""
    return next((component for component in suite if component.name == name), Component(name, {}))


@dataclass
class Runner:
    """Runs the steps of one arm in order. directory: where report and run.json go; say: prints a line.

    The directory is made when the first long step begins: bad input leaves nothing behind. One process at a
    time writes into it, and what another run left there is kept.
    """

    arm: Arm
    name: str
    directory: Path
    registry: Registry
    command: str
    say: Say
    quiet: bool = False
    tiny: bool = False
    near: Path | None = None
    data: dict[str, list[tuple[Held, ...]]] = field(default_factory=dict)
    models: dict[str, list[Trained]] = field(default_factory=dict)
    subjects: dict[str, Subject] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    links: dict[str, Path] = field(default_factory=dict)
    opened: bool = False
    held: keeping.Hold | None = None
    left: str | None = None
    at: Step | None = None

    def __post_init__(self) -> None:
        ranks.join()
        self.shelf = Shelf(wheels.home() / "shelf")
        self.recipe = self.arm.recipe

    def run(self) -> dict[str, Any]:
        """Carry out all steps, then judge, write run.json and the report. Gives what run.json holds."""
        files.check(self.recipe, self.registry, self.near)
        self.models["base"] = [self.base()]
        return self.finish(self.recipe.steps)

    def finish(self, steps: Sequence[Step]) -> dict[str, Any]:
        """Carry out these steps, which are the last, then judge and write as `run` does."""
        state, found = "failed", {}
        try:
            for step in steps:
                self.step(step)
            self.open()
            state = "done"
        except KeyboardInterrupt:
            state = "stopped"
            raise
        finally:
            if self.opened:
                found = self.leave(state)
            else:
                self.release()
        return found

    def leave(self, state: str) -> dict[str, Any]:
        """Write run.json and the report, whatever became of the run, and let others into the directory."""
        from turnsmith.report.page import write

        found = summarise(self, state)
        text = json.dumps(found, indent=1, ensure_ascii=False, default=list)
        self.hold()
        try:
            if keeping.says_more(self.directory, found, own=self.left):
                self._set_aside()
            write_text(self.directory / keeping.RECIPE, found["resolved"])
            write_text(self.directory / keeping.RUN, text)
            write(found, self.directory)
            self.left = text
        finally:
            self.release()
        return found

    def open(self) -> None:
        """Make the run's directory its own, once everything that can be known to be wrong has been looked
        for: what a run left that made something else is set aside."""
        self.hold()
        recipe = resolved(self)
        if keeping.another(self.directory, self.keys, recipe if not self.opened else None):
            self._set_aside()
        if not self.opened and not (self.directory / keeping.RUN).exists():
            write_text(self.directory / keeping.RECIPE, recipe)
        self.opened = True
        keeping.now(self)

    def hold(self) -> None:
        """Be the only process at work in the directory; waits for whoever is. No artefact may be in the
        making here: others wait for those with the directory in hand."""
        if self.held is None:
            self.held = keeping.hold(self.directory)

    def release(self) -> None:
        """Let others into the directory, which goes again where nothing was put into it."""
        if self.held is not None:
            self.held.release()
            self.held = None

    def _set_aside(self) -> None:
        """Keep what another run left in the directory, and have no links there but one's own."""
        aside = keeping.set_aside(self.directory, self.shelf.root)
        self.say(f"kept    {aside}: what another run had left in {self.directory}")
        for name, target in self.links.items():
            self._link(name, target)

    def step(self, step: Step) -> None:
        """Carry out one step; what came of it is the last of `steps`."""
        if step.repeat is not None:
            for _ in range(step.repeat.times):
                for inner in step.repeat.steps:
                    self.step(inner)
            return
        self.at = step
        started = time.perf_counter()
        try:
            if step.data is None:
                self.hold()
            made = self._carried_out(step)
        except BaseException:
            if not self.opened:
                self.release()
            raise
        made.setdefault("seconds", time.perf_counter() - started)
        self.steps.append(made)

    def _carried_out(self, step: Step) -> dict[str, Any]:
        if step.data is not None:
            return self.make_data(step.data)
        if step.train is not None:
            return self._train(step.train)
        if step.merge is not None:
            return self._merge(step.merge)
        if step.combine is not None:
            return self._combine(step.combine)
        assert step.evaluate is not None
        return self._evaluate(step.evaluate)

    def _obtain(
        self, key: str, make: Callable[[Path], Mapping[str, Any]], *, together: bool = False
    ) -> tuple[bool, dict[str, Any]]:
        """The artefact of a step, made unless it is there: whether it was, and its record. together: by all
        processes of the run."""
        self.keys = [*(step["artefact"] for step in self.steps), key]
        if self.opened and not self.shelf.ready(key):
            keeping.now(self)
        return self.shelf.obtain(key, make, together=together), self.shelf.record(key)

    # ------------------------------------------------------------------------------------------- data

    def make_data(self, step: Data) -> dict[str, Any]:
        """Read or take over, put through the stages, split, store."""
        from turnsmith.data import read

        path, source = None, None
        origin = {"read": f"from {step.given}" if step.given else "made by stages"}
        if step.read is not None:
            path = read.locate(step.read, self.near)
            file = read.fingerprint(path)
            origin = {"read": step.read, "sha256": file, **provenance(step.read)}
            source = file if step.bad_rows == "stop" else [file, step.bad_rows]
        given = self.hashes(step.given) if step.given else None
        version = len(self.data.get(step.names[0], [])) + 1
        stages = [self._stage(one, version) for one in step.stages]
        splits: Any = [step.name, step.by] if isinstance(step.name, dict) else None
        key = digest("data 5", source, given, step.format, stages, splits, step.seed)

        def make(directory: Path) -> dict[str, Any]:
            from turnsmith.recipes import reading

            started = time.perf_counter()
            made = reading.make(step, self, path, directory, version)
            return {**made, "seconds": time.perf_counter() - started}

        reused, record = self._obtain(key, make)
        for name, file in zip(step.names, record["sizes"], strict=True):
            versions = self.data.setdefault(name, [])
            earlier = [one[-1] for one in versions[len(versions) - step.keep + 1 :]] if step.keep > 1 else []
            versions.append((*earlier, Held(key, file)))
        sizes = dict(zip(step.names, record["sizes"].values(), strict=True))
        counted = ", ".join(f"{count:,} {name}" for name, count in sizes.items())
        self._told("data", "+".join(step.names), reused, f"{counted} examples; format {record['format']}")
        self._tell_counts(record["counts"])
        for line in telling.spent_on(record.get("spent", {})):
            self.say(f"        {line}")
        if record["guessed"]:
            self.say(f"        guessed: {record['why']}")
            self.say(f"        the first: {glimpse(self.examples(step.names[0])[0])}")
        bad = str(self.shelf.path(key) / record["bad_rows"]) if record.get("bad_rows") else None
        if bad:
            self.say(f"        bad rows: {bad}")
        named = {
            "verb": "data",
            "name": "+".join(step.names),
            "artefact": key,
            "path": str(self.shelf.path(key)),
            "bad_rows": bad,
        }
        told = ("format", "guessed", "rows", "counts", "seconds", "usage", "flops")
        known = {name: record[name] for name in told}
        known |= {name: record.get(name) for name in ("computed_on", "unread", "passed", "hashes")}
        known["given"] = self._given([step.given] if step.given else [], {})
        return {**named, "reused": reused, **origin, **known, "examples": sum(sizes.values()), "sizes": sizes}

    def examples(self, name: str) -> Archive:
        """The examples of a data name, its newest version unless `name@N` says otherwise."""
        from turnsmith.data.archive import Archive

        return Archive([self.shelf.path(held.key) / f"{held.file}.jsonl" for held in self._held(name)])

    def _stage(self, component: Component, version: int) -> dict[str, Any]:
        """What a stage's examples depend on, beside what it is given; what chats draw depends on the run."""
        described = self._described("stage", component)
        models = self._fingerprints("stage", component)
        beside = self._beside("stage", component)
        return {**described, "chats": [*models, self.recipe.seed, version] if models else None, **beside}

    def _given(self, data: Sequence[str], models: Mapping[str, Trained]) -> dict[str, Any]:
        """What a step was given, by name: the data as they are on the shelf, models by their fingerprints."""
        return {
            "data": {name: self.hashes(name) for name in data},
            "models": {name: model.fingerprint for name, model in models.items()},
        }

    def _held(self, name: str) -> tuple[Held, ...]:
        return newest(self.data, name)

    def hashes(self, name: str) -> list[dict[str, str]]:
        """What stands for the data of a name in the hash of what is made from them."""
        return [asdict(held) for held in self._held(name)]

    # ------------------------------------------------------------------------------------------ train

    def _train(self, step: Train) -> dict[str, Any]:
        start = self.model(step.start)
        others = {name: self.model(model) for name, model in step.others.items()}
        seed, key = self._training(step, "train 3", start)

        def make(directory: Path) -> dict[str, Any]:
            from turnsmith.recipes import training

            self.subjects.clear()  # their memory is wanted for training
            beside = "".join(f", {name} {model}" for name, model in step.others.items())
            self.say(f"train   {step.name}: {step.trainable}, {step.objective}, from {step.start}{beside}")
            return training.make(step, self, start, others, directory, seed)

        reused, record = self._obtain(key, make, together=True)
        if reused:
            from turnsmith.models import load

            with ranks.main_first():
                load.stand_on(self.shelf.path(key) / "model", start.reference)
        self._made(step.name, key)
        figures = f"{record['steps']} steps, {record['tokens']:,} tokens, {record['seconds']:.0f} s"
        self._told("train", step.name, reused, figures)
        self._tell_counts(record["counts"])
        for warning in telling.of_training(step.name, record):
            self.warn(warning)
        named = {"verb": "train", "name": step.name, "artefact": key, "path": str(self.shelf.path(key))}
        named |= {"seed": seed, "fingerprint": self.models[step.name][-1].fingerprint}
        parts = list(self.registry.entry("objective", step.objective.name).parts)
        reads = {"data": step.data, "parts": parts, "train_on": step.train_on}
        data = [step.data, *([step.validate_on] if step.validate_on else []), *step.beside.values()]
        read = None if step.collect else reads  # what is collected is not what was given
        given = self._given(data, {step.start: start})
        return {**named, "reads": read, "given": given, "reused": reused, **record}

    def trial(self, step: Train) -> dict[str, Any]:
        """What the first optimiser steps of a `train` step take; the model is not kept."""
        start = self.model(step.start)
        if step.collect:
            raise UsageError(
                f"train {step.name}: what a step that collects will take cannot be tried: it learns from "
                "what it has yet to draw"
            )
        others = {name: self.model(model) for name, model in step.others.items()}
        seed, key = self._training(step, "trial 1", start)
        self.hold()

        def make(directory: Path) -> dict[str, Any]:
            from turnsmith.recipes import training

            self.subjects.clear()
            self.say(f"try     {step.name}: {step.trainable}, {step.objective}, for {step.fit.steps} steps")
            return training.trial(step, self, start, others, directory, seed)

        self.shelf.obtain(key, make, together=True)
        return self.shelf.record(key)

    def _training(self, step: Train, kind: str, start: Trained) -> tuple[int, str]:
        """The seed of a `train` step, and the hash of all that its outcome depends on."""
        version = len(self.models.get(step.name, [])) + 1
        seed = self.recipe.seed if version == 1 else seeds.number(self.recipe.seed, "version", version)
        key = digest(
            kind,
            self.hashes(step.data),
            start.fingerprint,
            self._described("objective", step.objective),
            self._described("trainable", step.trainable),
            _decisive(step.fit),
            step.train_on,
            seed,
            *([self._described("view", step.view)] if step.view else []),
            *([self._collected(step)] if step.collect else []),
            *self._fingerprints("trainable", step.trainable),
            self.hashes(step.validate_on) if step.validate_on else None,
            {name: self.model(model).fingerprint for name, model in step.others.items()},
            *([{name: self.hashes(data) for name, data in step.beside.items()}] if step.beside else []),
            *(self._watched(step) if kind.startswith("train") else []),
        )
        return seed, key

    def _collected(self, step: Train) -> dict[str, Any]:
        """What rounds depend on, beside the data, the seed and the model that learns."""
        assert step.collect is not None
        stages = step.collect.stages
        names = (name for one in stages for name in wiring.models("stage", one, self.registry))
        return {
            "stages": [{**self._described("stage", one), **self._beside("stage", one)} for one in stages],
            "models": [self.model(name).fingerprint for name in names if name != step.name],
            "examples": step.collect.examples,
            "epochs": step.collect.epochs,
        }

    def _watched(self, step: Train) -> list[Any]:
        """What is recorded beside the model; the model is the same with and without."""
        if step.watch is None:
            return []
        return [step.watch.every, [self._measured_by(one, step.watch.suite) for one in step.watch.suite]]

    def _merge(self, step: Merge) -> dict[str, Any]:
        models, base = [self.model(name) for name in step.models], self.model(step.base)
        method = self._described("merge", step.method)
        key = digest("merge 1", [one.fingerprint for one in (base, *models)], method, step.seed)

        def make(directory: Path) -> dict[str, Any]:
            from turnsmith.merges.apply import apply

            rule = bound(self.registry.function("merge", step.method.name), method["options"])
            rng = seeds.stream(step.seed, "merge")
            references = [one.reference for one in models]
            started = time.perf_counter()
            changed = apply(references, base.reference, rule, rng, directory / "model")
            seconds = time.perf_counter() - started
            return {"kind": "model", "method": str(step.method), "changed": changed, "seconds": seconds}

        reused, record = self._obtain(key, make)
        self._made(step.name, key)
        self._told("merge", step.name, reused, f"{step.method} of {', '.join(step.models)}")
        named = {"verb": "merge", "name": step.name, "models": step.models, "base": step.base}
        return {**named, "artefact": key, "path": str(self.shelf.path(key)), "reused": reused, **record}

    def _combine(self, step: Combine) -> dict[str, Any]:
        from turnsmith.recipes import combining

        members = {name: self.model(model) for name, model in step.members.items()}
        wanted = combining.described(step, members, self.registry)
        # References are part of it: a combination says where its members are.
        key = digest("combine 1", asdict(wanted))
        reused, record = self._obtain(key, partial(combining.make, wanted, self.registry))
        self._made(step.name, key)
        of = ", ".join(f"{name} {model}" for name, model in step.members.items())
        self._told("combine", step.name, reused, f"{step.decoder} of {of}")
        named = {"verb": "combine", "name": step.name, "artefact": key, "path": str(self.shelf.path(key))}
        return {**named, "reused": reused, **record}

    def _made(self, name: str, key: str) -> None:
        """Take the model of an artefact in as the newest of its name."""
        path = self.shelf.path(key) / "model"
        self.models.setdefault(name, []).append(self.reference(str(path)))
        self.open()
        self._link(name, path)

    def check_claim(self) -> None:
        """Raise UsageError where the claim names a figure that its task does not give."""
        for statement in self.recipe.claim:
            task: Any = self.registry.function("task", statement.task)
            names = [metric.name for metric in task.metrics]
            if statement.quantity not in names:
                meant = suggest(statement.quantity, names)
                raise UsageError(f"the task {statement.task!r} has no figure {statement.quantity!r}{meant}")

    def measured_data(self) -> list[tuple[str, tuple[str, ...]]]:
        """Data that evaluate steps will measure on and that are there already, with the parts they need."""
        steps = list(flat(self.recipe.steps))
        suites = [step.evaluate.suite for step in steps if step.evaluate is not None]
        suites += [step.train.watch.suite for step in steps if step.train and step.train.watch]
        needed = {
            (str(task.options["on"]), self.registry.entry("task", task.name).parts)
            for suite in suites
            for task in suite
            if "on" in task.options
        }
        return sorted((name, parts) for name, parts in needed if self._is_there(name))

    def _is_there(self, name: str) -> bool:
        """Whether data of this name, and of this version of it, were made already."""
        base, _, number = name.partition("@")
        return base in self.data and int(number or 1) <= len(self.data[base])

    # --------------------------------------------------------------------------------------- evaluate

    def _evaluate(self, step: Evaluate) -> dict[str, Any]:
        """Compare item by item; what was measured before on the same model is taken over."""
        after, before = self.model(step.model), self.model(step.against) if step.against else None
        parts = [self._measured_by(component, step.suite) for component in step.suite]
        start = self.models["base"][0].fingerprint
        names = (step.model, step.against)  # the record speaks of them
        compared = before.fingerprint if before else None
        said = [
            str(one.options) for one in step.suite if self.registry.entry("task", one.name).names("files")
        ]
        titles = [said] if said else []  # the record speaks of files by their names
        key = digest("evaluate 4", names, after.fingerprint, compared, start, parts, *titles)

        def make(directory: Path) -> dict[str, Any]:
            from turnsmith.recipes import measuring

            if not self.opened:  # a bad row of a file is known of before anything is left behind
                files.check(self.recipe, self.registry, self.near, rows=True)
            self.open()
            return measuring.make(step, self, after, before)

        reused, record = self._obtain(key, make)
        made_of = [one for task in record["tasks"] for one in task["measurements"].values()]
        if gone := [self.shelf.path(one) for one in made_of if not self.shelf.ready(one)]:
            raise StorageError(
                f"measurement {gone[0]} is gone, and the comparison {self.shelf.path(key)} was made of it: "
                "remove that one too and run again, which measures anew"
            )
        beside = f" against {step.against}" if step.against else ""
        self._told("measure", f"{step.model}{beside}", reused, "")
        for line in telling.figures(record["tasks"]):
            self.say(f"        {line}")
        named: dict[str, Any] = {"verb": "evaluate", "model": step.model, "against": step.against}
        models = {step.model: after} | ({step.against: before} if step.against and before else {})
        on = [str(one.options["on"]) for one in step.suite if "on" in one.options]
        named["given"] = self._given(on, models)
        return {**named, "artefact": key, "reused": reused, **record}

    def _measured_by(self, component: Component, suite: Sequence[Component]) -> dict[str, Any]:
        """What a task's items depend on, beside the model: also the tasks whose items it asks for."""
        described = self._described("task", component)
        on = described["options"].get("on")
        needs = self.registry.entry("task", component.name).names("needs")
        asked = [self._measured_by(in_suite(name, suite), suite) for name in needs]
        described["options"] |= files.hashes(component, self.registry, self.near)
        models = self._fingerprints("task", component)
        beside: dict[str, Any] = {"models": models} if models else {}
        beside |= self._beside("task", component)
        return {**described, "data": self.hashes(str(on)) if on else None, "needs": asked, **beside}

    def measurement_key(
        self, component: Component, suite: Sequence[Component], model: Trained, dtype: str
    ) -> str:
        """Of one task's items on one model; the start counts where the task asks for its items."""
        needs = self.registry.entry("task", component.name).names("needs")
        start = self.models["base"][0].fingerprint if needs else ""
        return digest("measure 2", self._measured_by(component, suite), model.fingerprint, start, dtype)

    # ---------------------------------------------------------------------------------- what is said

    def warn(self, note: str | None) -> None:
        """Say once what a reader of the report should know as well; nothing where there is no note."""
        if note and note not in self.warnings:
            self.warnings.append(note)
            self.say(f"        {note}")

    def _told(self, verb: str, name: str, reused: bool, what: str) -> None:
        self.say(f"{verb:<8}{name}: {what}{' (done before)' if reused else ''}".rstrip(": "))

    def _tell_counts(self, counts: Mapping[str, int]) -> None:
        for reason, count in counts.items():
            self.say(f"        {count:,} {reason}")

    # ---------------------------------------------------------------------------------------- details

    def model(self, name: str) -> Trained:
        """A model made by this run (the newest, or `name@N`), or any reference."""
        return newest(self.models, name) if bare(name) in self.models else self.reference(name)

    def base(self) -> Trained:
        """The model that the recipe starts from; a network is made, once for each seed."""
        base = self.recipe.base
        if isinstance(base, str):
            return self.reference(base)
        described = self._described("network", base)
        key = digest("network 1", described, self.recipe.seed)

        def make(directory: Path) -> dict[str, Any]:
            from turnsmith.models.networks.make import make

            network = self.registry.function("network", base.name)
            make(network, described["options"], directory / "model", seed=self.recipe.seed)
            return {"kind": "model", "network": str(base)}

        self.shelf.obtain(key, make)
        return self.reference(str(self.shelf.path(key) / "model"))

    def reference(self, reference: str) -> Trained:
        """A model that is on disk, can be fetched, or can be asked, with its hash."""
        from turnsmith.models import load
        from turnsmith.models.directory import file_hash

        if is_endpoint(reference):
            return Trained(reference, endpoint(reference).fingerprint)
        if is_llamacpp(reference):
            return Trained(reference, digest("llamacpp 1", file_hash(file_of(reference))))
        return Trained(reference, load.fingerprint(reference))

    def _described(self, kind: Kind, component: Component) -> dict[str, Any]:
        return wiring.described(kind, component, self.registry)

    def _beside(self, kind: Kind, component: Component) -> dict[str, Any]:
        """What stands for the data that a component's options, or its agents, name; nothing where none do."""
        named = wiring.data(kind, component, self.registry)
        return {"beside": [self.hashes(name) for name in named]} if named else {}

    def _fingerprints(self, kind: Kind, component: Component) -> list[str]:
        """Of the models that a component's options name."""
        return [self.model(name).fingerprint for name in wiring.models(kind, component, self.registry)]

    def _link(self, name: str, target: Path) -> None:
        """`runs/RECIPE/NAME` leads to the newest model of that name."""
        link = self.directory / name
        if not ranks.is_main():
            return
        self.links[name] = target
        with writing(link):
            if link.is_symlink():
                link.unlink()
            elif link.exists():
                raise UsageError(f"{link} is in the way of the model {name!r}: move it")
            link.symlink_to(target.resolve(), target_is_directory=True)
