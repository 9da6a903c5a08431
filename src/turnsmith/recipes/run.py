"""Carries out one arm of a recipe: every step is an artefact, made once and found again by its hash."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from turnsmith import wheels
from turnsmith.errors import DataError, TurnsmithError, UsageError
from turnsmith.recipes.schema import Arm, Component, Data, Evaluate, Step, Train
from turnsmith.registry import Kind, Registry
from turnsmith.shelf import Shelf, digest, write_text, writing
from turnsmith.types import Example

if TYPE_CHECKING:
    from turnsmith.evaluate.suite import Subject

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Held:
    """Data on the shelf: the artefact's key and which of its splits."""

    key: str
    split: str


@dataclass(frozen=True, slots=True)
class Trained:
    """A model: a reference that can be loaded, and the hash that stands for it."""

    reference: str
    fingerprint: str


@dataclass
class Runner:
    """Runs the steps of one arm in order. directory: where report and run.json go; say: prints a line."""

    arm: Arm
    name: str
    directory: Path
    registry: Registry
    command: str
    say: Say
    quiet: bool = False
    tiny: bool = False
    near: Path | None = None
    data: dict[str, list[list[Held]]] = field(default_factory=dict)
    models: dict[str, list[Trained]] = field(default_factory=dict)
    subjects: dict[str, Subject] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shelf = Shelf(wheels.home() / "shelf")
        self.recipe = self.arm.recipe
        self.started = time.perf_counter()

    def run(self) -> dict[str, Any]:
        """Carry out all steps, then judge, write run.json and the report. Gives what run.json holds."""
        self._prepare_directory()
        state = "failed"
        try:
            self.models["base"] = [self.reference(self.recipe.base)]
            for step in self.recipe.steps:
                self._step(step)
            state = "done"
        except KeyboardInterrupt:
            state = "stopped"
            raise
        finally:
            found = self._summary(state)
            write_text(
                self.directory / "run.json", json.dumps(found, indent=1, ensure_ascii=False, default=list)
            )
            if state == "done":
                from turnsmith.report.page import write

                write(found, self.directory)
        return found

    def _step(self, step: Step) -> None:
        if step.repeat is not None:
            for _ in range(step.repeat.times):
                for inner in step.repeat.steps:
                    self._step(inner)
            return
        started = time.perf_counter()
        made = (
            self.make_data(step.data)
            if step.data
            else self._train(step.train)
            if step.train
            else self._evaluate(step.evaluate)
            if step.evaluate
            else {}
        )
        made.setdefault("seconds", time.perf_counter() - started)
        self.steps.append(made)

    # ------------------------------------------------------------------------------------------- data

    def make_data(self, step: Data) -> dict[str, Any]:
        """Read or take over, put through the stages, split, store."""
        from turnsmith.data import read

        if step.read is not None:
            path = read.locate(step.read, self.near)
            origin: dict[str, Any] = {
                "read": step.read,
                "sha256": read.fingerprint(path),
                **_provenance(step.read),
            }
            source: object = origin["sha256"]
        else:
            assert step.given is not None
            path, held = None, self._held(step.given)
            origin = {"read": f"from {step.given}"}
            source = [asdict(one) for one in held]
        stages = [self._described("stage", one) for one in step.stages]
        splits: Any = [step.name, step.by, step.seed] if isinstance(step.name, dict) else None
        key = digest("data 1", source, step.format, stages, splits)
        reused = self.shelf.ready(key)
        if not reused:
            with self.shelf.making(key) as directory:
                record = self._make_data(step, path, directory)
                self.shelf.finish(key, record)
        record = self.shelf.record(key)
        for split in step.names:
            versions = self.data.setdefault(split, [])
            fresh = [Held(key, split if isinstance(step.name, dict) else "all")]
            earlier = (
                [one for version in versions[-(step.keep - 1) :] for one in version[-1:]]
                if step.keep > 1
                else []
            )
            versions.append([*earlier, *fresh])
        sizes = ", ".join(f"{count:,} {split}" for split, count in record["sizes"].items())
        self._told("data", "+".join(step.names), reused, f"{sizes} examples; format {record['format']}")
        for reason, count in record["counts"].items():
            self.say(f"        {count:,} {reason}")
        return {
            "verb": "data",
            "name": "+".join(step.names),
            "artefact": key,
            "path": str(self.shelf.path(key)),
            "reused": reused,
            **origin,
            **{name: record[name] for name in ("format", "guessed", "rows", "counts")},
            "examples": sum(record["sizes"].values()),
            "sizes": record["sizes"],
        }

    def _make_data(self, step: Data, path: Path | None, directory: Path) -> dict[str, Any]:
        from turnsmith.data import formats, read
        from turnsmith.data.split import BETWEEN, split

        counts: Counter[str] = Counter()
        if path is not None:
            rows = list(read.rows(path))
            guessed = step.format == "auto"
            entries = self.registry.entries("format")
            name = formats.guess([row for _, row in rows[:1000]], entries) if guessed else step.format
            examples, skipped = formats.examples(rows, name, self.registry, str(path))
            counts.update({f"skipped: {reason}": count for reason, count in skipped.items()})
        else:
            assert step.given is not None
            examples, name, guessed = self.examples(step.given), "turnsmith", False
        total = sum(counts.values()) + len(examples)
        for component in step.stages:
            before = len(examples)
            options = self.registry.options("stage", component.name, component.options)
            examples = list(self.registry.function("stage", component.name)(examples, **options))
            if not examples:
                raise DataError(f"the stage {component.name!r} left none of {before} examples")
            if len(examples) < before:
                counts[f"left out by {_shown(component)}"] += before - len(examples)
        if not examples:
            raise DataError(
                f"{step.read}: not one usable example; " + "; ".join(f"{n} {r}" for r, n in counts.items())
            )
        parts = {"all": examples}
        if isinstance(step.name, dict):
            parts, between = split(examples, step.name, by=step.by, seed=step.seed)
            counts.update({BETWEEN: between} if between else {})
        for part, ones in parts.items():
            lines = [json.dumps(formats.to_row(one), ensure_ascii=False) for one in ones]
            write_text(directory / f"{part}.jsonl", "\n".join(lines) + "\n")
        sizes = {part if part != "all" else str(step.name): len(ones) for part, ones in parts.items()}
        return {
            "kind": "data",
            "format": name,
            "guessed": guessed,
            "rows": total,
            "counts": counts,
            "sizes": sizes,
        }

    def _held(self, name: str) -> list[Held]:
        base, _, version = name.partition("@")
        return self.data[base][int(version) - 1 if version else -1]

    def examples(self, name: str) -> list[Example]:
        from turnsmith.data import formats, read

        found: list[Example] = []
        for held in self._held(name):
            file = self.shelf.path(held.key) / f"{held.split}.jsonl"
            rows = [(str(row["meta"]["id"]), row) for _, row in read.rows(file)]
            found += formats.examples(rows, "turnsmith", self.registry, str(file))[0]
        return found

    # ------------------------------------------------------------------------------------------ train

    def _train(self, step: Train) -> dict[str, Any]:
        start = self.model(step.start)
        objective = self._described("objective", step.objective)
        trainable = self._described("trainable", step.trainable)
        fit = asdict(step.fit)
        key = digest(
            "train 1",
            [asdict(one) for one in self._held(step.data)],
            start.fingerprint,
            objective,
            trainable,
            {k: v for k, v in fit.items() if k not in ("trackers", "checkpoint")},
            step.train_on,
            self.recipe.seed,
            [asdict(one) for one in self._held(step.validate_on)] if step.validate_on else None,
        )
        reused = self.shelf.ready(key)
        if not reused:
            from turnsmith.recipes.training import make

            self.subjects.clear()  # their memory is wanted for training
            self.say(
                f"train   {step.name}: {_shown(step.trainable)}, {_shown(step.objective)}, from {step.start}"
            )
            with self.shelf.making(key) as directory:
                record = make(step, self, start, directory)
                self.shelf.finish(key, record)
        record = self.shelf.record(key)
        path = self.shelf.path(key)
        self.models.setdefault(step.name, []).append(Trained(str(path / "model"), key))
        self._link(step.name, path / "model")
        self._told(
            "train",
            step.name,
            reused,
            f"{record['steps']} steps, {record['tokens']:,} tokens, {record['seconds']:.0f} s",
        )
        for reason, count in record["counts"].items():
            self.say(f"        {count:,} {reason}")
        return {
            "verb": "train",
            "name": step.name,
            "artefact": key,
            "path": str(path),
            "reused": reused,
            **record,
        }

    # --------------------------------------------------------------------------------------- evaluate

    def _evaluate(self, step: Evaluate) -> dict[str, Any]:
        """Compare item by item; what was measured before on the same model is taken over."""
        after, before = self.model(step.model), self.model(step.against)
        parts = [self._measured_by(component) for component in step.suite]
        key = digest("evaluate 1", after.fingerprint, before.fingerprint, parts)
        reused = self.shelf.ready(key)
        if not reused:
            from turnsmith.recipes.measuring import make

            with self.shelf.making(key):
                self.shelf.finish(key, make(step, self, after, before))
        record = self.shelf.record(key)
        self._told("measure", f"{step.model} against {step.against}", reused, "")
        self._tell_figures(record["tasks"])
        named = {"verb": "evaluate", "model": step.model, "against": step.against}
        return {**named, "artefact": key, "reused": reused, **record}

    def _measured_by(self, component: Component) -> dict[str, Any]:
        """What a task's items depend on, beside the model."""
        described = self._described("task", component)
        on = described["options"].get("on")
        return {**described, "data": [asdict(one) for one in self._held(on)] if on else None}

    def measurement_key(self, component: Component, model: Trained, dtype: str) -> str:
        """Of one task's items on one model; the start counts where the task compares with it."""
        start = (
            self.model("base").fingerprint
            if self.registry.entry("task", component.name).traits.get("start")
            else ""
        )
        return digest("measure 1", self._measured_by(component), model.fingerprint, start, dtype)

    # ------------------------------------------------------------------------------------- what is said

    def _told(self, verb: str, name: str, reused: bool, what: str) -> None:
        self.say(f"{verb:<8}{name}: {what}{' (done before)' if reused else ''}".rstrip(": "))

    def _tell_figures(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        for task in tasks:
            for metric in task["metrics"]:
                change = f"{metric['difference']:+.3f} [{metric['low']:+.3f}, {metric['high']:+.3f}]"
                figures = f"{metric['before']:.3f} -> {metric['after']:.3f}"
                self.say(
                    f"        {metric['name']:<30}{figures:<18}{change:<28}{metric['verdict']}  "
                    f"n={metric['n']}"
                )

    # ------------------------------------------------------------------------------------------ details

    def model(self, name: str) -> Trained:
        base, _, number = name.partition("@")
        if base in self.models:
            return self.models[base][int(number) - 1 if number else -1]
        return self.reference(name)

    def is_data(self, name: str) -> bool:
        """Whether data of this name have been made."""
        return name.partition("@")[0] in self.data

    def is_model(self, name: str) -> bool:
        """Whether a model of this name has been made."""
        return name.partition("@")[0] in self.models

    def reference(self, reference: str) -> Trained:
        from turnsmith.models import load

        return Trained(reference, load.fingerprint(reference))

    def _described(self, kind: Kind, component: Component) -> dict[str, Any]:
        entry = self.registry.entry(kind, component.name)
        options = self.registry.options(kind, component.name, component.options)
        return {"name": component.name, "version": entry.version, "options": options}

    def _prepare_directory(self) -> None:
        with writing(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / "report.html").unlink(missing_ok=True)
        write_text(self.directory / "recipe.yaml", self.resolved())

    def _link(self, name: str, target: Path) -> None:
        """`runs/RECIPE/NAME` leads to the newest model of that name."""
        link = self.directory / name
        with writing(link):
            if link.is_symlink():
                link.unlink()
            elif link.exists():
                raise UsageError(f"{link} is in the way of the model {name!r}: move it")
            link.symlink_to(target.resolve(), target_is_directory=True)

    def resolved(self) -> str:
        """The recipe with every default, as YAML."""
        return yaml.safe_dump(
            resolve(self.recipe.model_dump(mode="json", by_alias=True), self.registry),
            sort_keys=False,
            allow_unicode=True,
        )

    def _summary(self, state: str) -> dict[str, Any]:
        trained = [step for step in self.steps if step["verb"] == "train"]
        measured = [step for step in self.steps if step["verb"] == "evaluate"]
        seconds = sum(step["seconds"] for step in self.steps)
        from turnsmith.recipes.verdict import judge

        return {
            "recipe": self.name,
            "title": self.recipe.title,
            "source": self.recipe.source,
            "arm": self.arm.name,
            "seed": self.recipe.seed,
            "command": self.command,
            "version": version("turnsmith"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "state": state,
            "tiny": self.tiny,
            "machine": machine(),
            "base": self._base(),
            "resolved": self.resolved(),
            "steps": self.steps,
            "claim": judge(self.recipe.claim, measured, tiny=self.tiny),
            "cost": {
                "seconds": seconds,
                "train_seconds": sum(step["seconds"] for step in trained),
                "evaluate_seconds": sum(step["seconds"] for step in measured),
                "tokens": sum(step["tokens"] for step in trained),
                "supervised": sum(step["supervised"] for step in trained),
                "flops": sum(step["flops"] for step in trained),
                "peak_memory_gib": max([step["peak_memory_gib"] for step in trained], default=None),
                "energy_wh": sum(step["energy_wh"] for step in trained),
                "energy_note": trained[0]["energy_note"] if trained else None,
            },
            "next": self._next(trained),
            "warnings": self.warnings,
        }

    def _base(self) -> dict[str, Any]:
        from turnsmith.models import load

        found: dict[str, Any] = {"reference": self.recipe.base, **_provenance(self.recipe.base)}
        try:
            found |= {"parameters": load.parameters(self.recipe.base)}
            found |= {"fingerprint": load.fingerprint(self.recipe.base)}
        except TurnsmithError:
            pass  # the run failed because of it, and says so
        return found

    def _next(self, trained: Sequence[Mapping[str, Any]]) -> list[str]:
        if not trained:
            return []
        model = self.directory / str(trained[-1]["name"])
        return [
            f"turnsmith chat {model} {self.recipe.base}",
            f"turnsmith export {model} --to exported",
            f"turnsmith tune {self.recipe.base} YOUR.jsonl",
        ]


def resolve(plain: Any, registry: Registry) -> Any:
    """A dumped recipe in which every component shows all its options and nothing that was not said is
    None."""
    kinds: dict[str, Kind] = {
        "objective": "objective",
        "trainable": "trainable",
        "suite": "task",
        "stages": "stage",
    }

    def component(kind: Kind, one: Mapping[str, Any]) -> Any:
        options = registry.options(kind, one["name"], one["options"])
        return {one["name"]: json.loads(json.dumps(options))} if options else one["name"]

    if isinstance(plain, list):
        return [resolve(one, registry) for one in plain]
    if not isinstance(plain, dict):
        return plain
    found = {}
    for key, value in plain.items():
        if key in kinds and value:
            kind = kinds[key]
            value = (
                [component(kind, one) for one in value] if isinstance(value, list) else component(kind, value)
            )
            found[key] = value
        elif value is not None and value != {} and value != []:
            found[key] = resolve(value, registry)
    return found


def machine() -> dict[str, Any]:
    """What this runs on."""
    import psutil

    packages = {}
    for name in ("torch", "transformers", "peft"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        **packages,
    }


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _provenance(reference: str) -> dict[str, Any]:
    shipped = wheels.shipped(reference)
    return {"licence": shipped.licence, "source": shipped.source} if shipped else {}


def _shown(component: Component) -> str:
    options = ", ".join(f"{name} {value}" for name, value in component.options.items())
    return f"{component.name} ({options})" if options else component.name
