"""Stages 2 to 5 of a run: what it began with, on what it computed, what it learnt, and what was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnsmith.errors import TurnsmithError
from turnsmith.recipes.audited import Finished, Stage
from turnsmith.recipes.schema import FORGETTING
from turnsmith.train.record import METRICS

EARLIER = "made before this was recorded: run the recipe again to have it checked"
GIB = 2**30


def initialised(done: Finished) -> Stage:
    """Stage 2: the start model with its licence, whether conversations are still rendered as they were
    learnt, and whether the training was within the memory."""
    stage, base = Stage(2, "model initialisation"), done.run["base"]
    reference, expected = str(base["reference"]), base.get("fingerprint")
    stage.inputs[reference] = expected
    stage.figures["parameters"] = base.get("parameters")
    _same(stage, f"the start model {reference} is as it was", reference, expected)
    licence = base.get("licence")
    stage.check(
        "the licence of the start model is known",
        True if licence else None,
        str(licence or "it is not: look it up before the model is handed on"),
    )
    memory = done.run.get("machine", {}).get("memory_gib")
    for step in done.steps("train"):
        name = str(step["name"])
        _rendered(stage, name, done.artefact(step) / "model", step.get("renderer"))
        expected_gib, peak = (step.get("room") or {}).get("peak", 0) / GIB, step.get("peak_memory_gib")
        stage.figures[f"memory of {name} in GiB"] = {"expected": round(expected_gib, 2), "peak": peak}
        if memory and peak and (step.get("computed_on") or {}).get("device") == "cpu":
            stage.check(
                f"{name} was trained within the memory", peak <= memory, f"{peak:.1f} of {memory} GiB"
            )
    return stage


def _same(stage: Stage, what: str, reference: str, expected: str | None) -> None:
    """Whether a model's fingerprint is what it was."""
    from turnsmith.models import load

    try:
        now = load.fingerprint(reference)
    except (TurnsmithError, OSError) as error:
        stage.check(what, False, f"it cannot be read: {error}")
        return
    if expected is None:
        stage.check(what, None, EARLIER)
    else:
        stage.check(what, now == expected, now[:16] if now == expected else "it has changed since")


def _rendered(stage: Stage, name: str, model: Path, expected: str | None) -> None:
    """Whether the model's tokenizer renders conversations as they were learnt."""
    from turnsmith.data.render import Renderer
    from turnsmith.models import load, rendered

    what = f"{name} renders conversations as they were learnt"
    if not (model / rendered.FILE).is_file():
        stage.check(what, None, "nothing is kept of how they were")
        return
    try:
        kept = json.loads((model / rendered.FILE).read_text("utf-8"))["fingerprint"]
        rendered.check(str(model), Renderer(load.tokenizer(str(model))))
    except (TurnsmithError, OSError, ValueError, KeyError) as error:
        stage.check(what, False, str(error))
        return
    stage.check(what, kept == expected, str(kept))


def environment(done: Finished) -> Stage:
    """Stage 3: arithmetic, threads, seed and options of every training, and what may come out otherwise."""
    stage = Stage(3, "training environment")
    machine = done.run.get("machine", {})
    stage.settings["machine"] = machine
    stage.settings["seed"] = done.run.get("seed")
    for step in done.steps("train"):
        name, on = str(step["name"]), step.get("computed_on") or {}
        stage.settings[name] = {"dtype": step.get("dtype"), "fit": step.get("fit"), "seed": step.get("seed")}
        known = bool(step.get("dtype") and on.get("threads") and step.get("fit"))
        said = f"{step.get('dtype')}, {on.get('device')}, {on.get('threads')} threads"
        stage.check(f"{name}: arithmetic, device, threads and options are recorded", known, said)
    if done.steps("train"):
        versions = [name for name in ("python", "torch", "transformers", "peft") if not machine.get(name)]
        said = f"not known: {', '.join(versions)}" if versions else ""
        stage.check("versions and seed are recorded", not versions and done.run.get("seed") is not None, said)
    for line in done.run.get("varies", ()):
        stage.check("the same again gives the same bytes", None, str(line))
    return stage


def tuned(done: Finished) -> Stage:
    """Stage 4: whether each model is there as it was made, of the data and the start of this run."""
    stage = Stage(4, "fine-tuning")
    made: dict[str, set[str | None]] = {"base": {done.run["base"].get("fingerprint")}}
    trained = [step["name"] for step in done.run["steps"] if step["verb"] == "train"]
    for step in done.steps("train"):
        name = str(step["name"])
        _given(stage, done, step, name)
        for start, fingerprint in step.get("given", {}).get("models", {}).items():
            if start in made and start.partition("@")[0] in ("base", *trained):
                fits = fingerprint in made[start]
                stage.check(f"{name} began with {start} of this run", fits, str(fingerprint)[:16])
        made.setdefault(name, set()).add(step.get("fingerprint"))
        _same(stage, f"{name} is as it was made", str(done.artefact(step) / "model"), step.get("fingerprint"))
        _losses(stage, step, name, done.artefact(step))
    if trained:
        stage.check(
            "the run was carried to its end", done.run.get("state") == "done", str(done.run.get("state"))
        )
    return stage


def _given(stage: Stage, done: Finished, step: Mapping[str, Any], name: str) -> None:
    """Whether the data that a step was given are those of this run."""
    given = step.get("given", {}).get("data")
    if given is None:
        stage.check(f"{name} was given data of this run", None, EARLIER)
        return
    keys = {str(one["artefact"]) for one in done.steps("data")}
    for data, held in given.items():
        hashes = [str(one["key"]) for one in held]
        stage.inputs[f"{name}: {data}"] = hashes
        strange = [key for key in hashes if key not in keys]
        said = f"the record {strange[0]} is not of this run: run the recipe again" if strange else ""
        stage.check(f"{name} was given {data} of this run", not strange, said or ", ".join(hashes))


def _losses(stage: Stage, step: Mapping[str, Any], name: str, place: Path) -> None:
    """Whether every step left a loss that is a number."""
    file = place / str(step.get("metrics") or METRICS)
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    losses = [json.loads(line).get("loss") for line in lines]
    whole = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    skipped = int(step.get("skipped") or 0)
    said = f"{len(losses):,} of {step['steps']:,} steps, {skipped:,} left out"
    fits = len(losses) == step["steps"] and len(whole) >= len(losses) - skipped
    stage.check(f"{name}: every step left a loss that is a number", fits, said)
    stage.figures[name] = {
        "parameters": step.get("parameters"),
        "loss": {"first": whole[0], "last": whole[-1]} if whole else None,
        "steps": step["steps"],
        "steps between checkpoints": (step.get("fit") or {}).get("checkpoint"),
        "kept after step": step.get("best_step"),
        "seconds": step.get("seconds"),
    }
    for line in step.get("health") or ():
        stage.check(f"{name}: nothing shows that it degenerates", None, str(line))


def evaluated(done: Finished) -> Stage:
    """Stage 5: whether what was measured is what was made here, with perplexities before and after."""
    stage = Stage(5, "evaluation")
    models: dict[str, set[str | None]] = {}
    for step in done.steps("train"):
        models.setdefault(str(step["name"]), set()).add(step.get("fingerprint"))
    measured: set[str] = set()
    for step in done.steps("evaluate"):
        name = f"{step['model']} against {step['against']}" if step.get("against") else str(step["model"])
        _given(stage, done, step, name)
        for model, fingerprint in step.get("given", {}).get("models", {}).items():
            if model in models:
                fits = fingerprint in models[model]
                said = "" if fits else "another one was measured: run the recipe again"
                stage.check(f"what was measured as {model} is what was trained", fits, said)
        gone = _gone(done, step)
        said = f"{gone[0]} is: remove {done.artefact(step)} and run the recipe again" if gone else ""
        stage.check(f"{name}: no measurement is gone", not gone, said)
        measured |= {str(task["task"]) for task in step.get("tasks", ()) if step["model"] in models}
        stage.figures |= {f"{name}, {key}": value for key, value in _perplexities(step).items()}
    missing = [task for task in FORGETTING if task not in measured]
    if models and done.steps("evaluate"):
        said = f"{', '.join(missing)} of it was not" if missing else ""
        stage.check("what a model may have forgotten was measured", None if missing else True, said)
    return stage


def _gone(done: Finished, step: Mapping[str, Any]) -> list[Path]:
    """Measurements that are not on the shelf any more."""
    shelf = done.artefact(step).parent
    keys = [key for task in step.get("tasks", ()) for key in task["measurements"].values()]
    return [shelf / str(key) for key in keys if not (shelf / str(key)).is_dir()]


def _perplexities(step: Mapping[str, Any]) -> dict[str, Any]:
    """exp of each loss per token, before and after."""
    found: dict[str, Any] = {}
    for task in step.get("tasks", ()):
        for row in task["metrics"]:
            if row.get("unit") == "nats per token" and str(row["name"]).startswith("loss"):
                sides = {side: row.get(side) for side in ("before", "after")}
                on = f" on {task['on']}" if task.get("on") else ""
                found[f"perplexity{on} ({row['name']})"] = {
                    side: None if value is None else math.exp(value) for side, value in sides.items()
                }
    return found
