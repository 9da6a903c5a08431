"""What a run leaves beside its artefacts: run.json, from which the report is made."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from turnsmith import wheels
from turnsmith.errors import TurnsmithError
from turnsmith.recipes import yaml12
from turnsmith.recipes.varying import varying
from turnsmith.recipes.verdict import judge
from turnsmith.registry import Kind, Registry
from turnsmith.types import Example, is_list, is_object

if TYPE_CHECKING:
    from turnsmith.recipes.run import Runner


def summarise(runner: Runner, state: str) -> dict[str, Any]:
    """Everything that the report shows, as JSON."""
    trained = [step for step in runner.steps if step["verb"] == "train"]
    measured = [step for step in runner.steps if step["verb"] == "evaluate"]
    return {
        "recipe": runner.name,
        "title": runner.recipe.title,
        "source": runner.recipe.source,
        "arm": runner.arm.name,
        "seed": runner.recipe.seed,
        "command": runner.command,
        "version": version("turnsmith"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": state,
        "tiny": runner.tiny,
        "machine": machine(),
        "base": _base(runner),
        "resolved": resolved(runner),
        "steps": runner.steps,
        "claim": judge(runner.recipe.claim, [runner.steps], runner.shelf, tiny=runner.tiny),
        "cost": _cost(runner.steps, trained, measured),
        "next": _next(runner, trained),
        "warnings": runner.warnings,
        "varies": varying(runner),
    }


def resolved(runner: Runner) -> str:
    """The recipe with every default, as YAML."""
    return yaml12.dump(resolve(runner.recipe.model_dump(mode="json", by_alias=True), runner.registry))


def provenance(reference: str) -> dict[str, Any]:
    """Licence and source of what comes with Turnsmith; nothing is known of the rest."""
    shipped = wheels.shipped(reference)
    return {"licence": shipped.licence, "source": shipped.source} if shipped else {}


def _cost(
    steps: Sequence[Mapping[str, Any]],
    trained: Sequence[Mapping[str, Any]],
    measured: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    totals = {
        name: sum(step[name] for step in trained) for name in ("tokens", "supervised", "flops", "energy_wh")
    }
    watching = sum(step.get("watch_seconds", 0.0) for step in trained)
    collecting = sum(step.get("collecting_seconds", 0.0) for step in trained)
    return {
        "seconds": sum(step["seconds"] for step in steps) + watching + collecting,
        "train_seconds": sum(step["seconds"] for step in trained),
        "evaluate_seconds": sum(step["seconds"] for step in measured) + watching,
        **totals,
        "peak_memory_gib": max([step["peak_memory_gib"] for step in trained], default=None),
        "energy_note": trained[0]["energy_note"] if trained else None,
    }


def _base(runner: Runner) -> dict[str, Any]:
    from turnsmith.models import load

    called = str(runner.recipe.base)
    found: dict[str, Any] = {"reference": called, **provenance(called)}
    try:
        reference = _start(runner)
        found |= {"parameters": load.parameters(reference), "fingerprint": load.fingerprint(reference)}
    except TurnsmithError:
        pass  # the run failed because of it, and says so
    return found


def _start(runner: Runner) -> str:
    """What the start model is loaded by."""
    base = runner.recipe.base
    return base if isinstance(base, str) else runner.models["base"][0].reference


def _next(runner: Runner, trained: Sequence[Mapping[str, Any]]) -> list[str]:
    if not trained:
        return []
    model, typed = runner.directory / str(trained[-1]["name"]), program()
    return [
        f"{typed} chat {model} {_start(runner)}",
        f"{typed} export {model} --to safetensors --out exported",
        f"{typed} tune {_start(runner)} YOUR.jsonl",
    ]


def program() -> str:
    """What to type for this installation's `turnsmith`: its name where that is found, else its path."""
    own = Path(sys.executable).parent / "turnsmith"
    found = shutil.which("turnsmith")
    if not own.exists() or (found and Path(found).resolve() == own.resolve()):
        return "turnsmith"
    here = Path.cwd()
    return str(own.relative_to(here) if own.is_relative_to(here) else own)


AS_SAID = ("each", "tiny", "control")  # keys of a recipe that say what other keys may be


def resolve(plain: Any, registry: Registry) -> Any:
    """A dumped recipe in which every component shows all its options and nothing that was not said is
    None."""
    kinds: dict[str, Kind] = {
        "base": "network",
        "objective": "objective",
        "view": "view",
        "trainable": "trainable",
        "decoder": "decoder",
        "suite": "task",
        "stages": "stage",
    }

    def component(kind: Kind, one: Mapping[str, Any]) -> Any:
        options = registry.options(kind, one["name"], one["options"])
        return {one["name"]: json.loads(json.dumps(options))} if options else one["name"]

    if is_list(plain):
        return [resolve(one, registry) for one in plain]
    if not is_object(plain):
        return plain
    found: dict[str, Any] = {}
    for key, value in plain.items():
        if key in kinds and value and not isinstance(value, str):
            kind = kinds[key]
            value = [component(kind, one) for one in value] if is_list(value) else component(kind, value)
            found[key] = value
        elif key in AS_SAID and value:
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


def glimpse(example: Example, *, most: int = 48) -> str:
    """One line of an example: the parts, who speaks in them, and how they begin."""
    found: list[str] = []
    for name, part in example.parts.items():
        first = part[0] if isinstance(part, tuple) else part
        said = [
            f"{message.role}: {shorten(message.content or '(calls)', most, placeholder='...')}"
            for message in first.messages[:2]
        ]
        found.append(f"{name} [{'; '.join(said)}{'; ...' if len(first.messages) > 2 else ''}]")
    return f"{example.id}: {', '.join(found)}"
