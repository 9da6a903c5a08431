"""What a `train` step does once it is known that it has to be done."""

from __future__ import annotations

import functools
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from turnsmith.data.batch import Layout, micro_batches, pack, pad
from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer
from turnsmith.data.stream import Stream
from turnsmith.models import cost, forest, load
from turnsmith.models.score import Scoring
from turnsmith.train import reference
from turnsmith.train.loop import Method, fit, unit_weights, units
from turnsmith.train.place import Place, arithmetic, device
from turnsmith.train.record import Record, peak_memory_gib
from turnsmith.trainable.install import install, learning
from turnsmith.types import Rendered

if TYPE_CHECKING:
    from turnsmith.recipes.run import Runner, Trained
    from turnsmith.recipes.schema import Train
    from turnsmith.registry import Per

SHOWN = 3  # examples whose loss mask the report shows


def layout_of(model: torch.nn.Module, runner: Runner) -> Layout:
    """How rows are laid out for this model: packed where it can have that; otherwise a line says why not."""
    refusal = forest.refusal(model)
    if refusal is None:
        forest.attach(model)
        return pack
    note = f"plain padded rows: {refusal}"
    if note not in runner.warnings:
        runner.warnings.append(note)
        runner.say(f"        {note}")
    return pad


def make(step: Train, runner: Runner, start: Trained, directory: Path) -> dict[str, Any]:
    """Load, install, fit, save. Gives the record of the artefact."""
    options = step.fit
    seed = runner.recipe.seed
    entry = runner.registry.entry("objective", step.objective.name)
    chosen = {
        "objective": runner.registry.options("objective", step.objective.name, step.objective.options),
        "trainable": runner.registry.options("trainable", step.trainable.name, step.trainable.options),
    }
    dtype, seconds = arithmetic(options.dtype, directory / "arithmetic.json")
    renderer = Renderer(load.tokenizer(start.reference))
    parts = [str(part) for part in _sequence(entry.traits.get("parts", ("text",)))]
    rendered, counts = prepare(
        runner.examples(step.data),
        renderer,
        parts,
        length=options.length,
        over=options.over,
        max_dropped=options.max_dropped,
        train=step.train_on,
    )
    for name in runner.measured_data():  # what is wrong with it should not show after the training
        prepare(runner.examples(name), renderer, ("text",), length=options.length, max_dropped=1.0)
    runner.check_claim()
    runner.open()
    model, tokenizer = load.load(start.reference, dtype=dtype, device=device(), trainable=True)
    layout = layout_of(model, runner)
    if options.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    trainable = runner.registry.function("trainable", step.trainable.name)
    goes_on = hasattr(model, "merge_and_unload")  # the start is an adapter
    if goes_on and not isinstance(trainable, type):
        runner.say(
            "        the adapter is merged into its base: this trainable chooses among the base's weights"
        )
        model, goes_on = model.merge_and_unload(), False  # pyright: ignore[reportCallIssue]
    model = install(model, trainable, chosen["trainable"], seed=seed)
    scoring = Scoring(model, autocast=dtype == "bfloat16")
    method = Method(
        functools.partial(runner.registry.function("objective", step.objective.name), **chosen["objective"]),
        cast("Per", entry.traits.get("per", "token")),
        bool(entry.traits.get("reference", False)),
        tuple(map(str, _sequence(entry.traits.get("reads", ())))),
    )
    live = None
    stream = Stream(rendered, batch=options.batch, order=options.order, seed=seed)
    if method.reference and options.reference == "live":
        probe = layout(next(micro_batches(stream.window(0), options.row)))
        live = reference.live(scoring, probe, temperature=options.temperature)
    elif method.reference:
        stream = _with_reference(stream, scoring, step, layout, directory)
    place = Place(device=device(), trackers=options.trackers, directory=runner.directory)
    with Record(directory, title=step.name, quiet=runner.quiet) as recorder:
        totals = fit(
            scoring,
            stream,
            method,
            options,
            directory=directory / "checkpoints",
            recorder=recorder,
            place=place,
            seed=seed,
            layout=layout,
            reference=live,
            validate=_validator(step, runner, scoring, renderer, layout, parts, method, directory),
        )
    peak = peak_memory_gib()
    load.save(model, tokenizer, directory / "model", base=None if goes_on else start.reference)
    shutil.rmtree(directory / "checkpoints", ignore_errors=True)
    for file in directory.glob("*.npy"):
        file.unlink()
    counted = {
        "learning": sum(p.numel() for p in learning(model).values()),
        "all": sum(p.numel() for p in model.parameters()),
    }
    flops = cost.training_flops(model, int(totals["tokens"]), int(totals["supervised"]))
    return {
        "kind": "model",
        "objective": step.objective.name,
        "objective_options": chosen["objective"],
        "trainable": step.trainable.name,
        "trainable_options": chosen["trainable"],
        "fit": asdict(options),
        "dtype": dtype,
        "dtype_seconds": seconds,
        "parameters": counted,
        "examples": len(rendered),
        "counts": counts,
        "steps": int(totals["step"]),
        **{name: int(totals[name]) for name in ("tokens", "supervised", "slots")},
        "seconds": totals["seconds"],
        "best_step": totals.get("best_step"),
        "flops": flops,
        "energy_wh": cost.energy_wh(totals["seconds"], torch.get_num_threads()),
        "energy_note": cost.ENERGY_NOTE,
        "peak_memory_gib": peak,
        "metrics": "metrics.jsonl",
        "renderer": renderer.fingerprint,
        "start": start.reference,
        "shown": shown(rendered[:SHOWN], renderer),
    }


def shown(rendered: list[Rendered], renderer: Renderer) -> list[dict[str, Any]]:
    """Examples as token texts with loss weights, for people."""
    return [
        {
            "id": f"{example.id} {part}" if len(example.parts) > 1 else example.id,
            "tokens": [
                {"text": renderer.tokenizer.decode([int(id)]), "weight": float(weight)}
                for id, weight in zip(ones[0].inputs, ones[0].weights, strict=True)
            ],
        }
        for example in rendered
        for part, ones in example.parts.items()
    ]


def _sequence(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _with_reference(stream: Stream, scoring: Scoring, step: Train, layout: Layout, directory: Path) -> Stream:
    """The stream with reference log-probs on those examples that the run will see."""
    total = step.fit.total(len(stream.examples))
    seen = sorted({index for at in range(total) for index in stream.indices(at)})
    wanted = [stream.examples[index] for index in seen]
    made = reference.precompute(
        scoring,
        wanted,
        layout,
        row=step.fit.row,
        temperature=step.fit.temperature,
        file=directory / "reference.npy",
    )
    by_index = dict(zip(seen, made, strict=True))
    examples = [by_index.get(index, example) for index, example in enumerate(stream.examples)]
    return Stream(examples, batch=stream.batch, order=stream.order, seed=stream.seed)


def _validator(
    step: Train,
    runner: Runner,
    scoring: Scoring,
    renderer: Renderer,
    layout: Layout,
    parts: list[str],
    method: Method,
    directory: Path,
) -> Any:
    """A function that gives the objective's mean on the data of `validate_on`; None where there is none."""
    if step.validate_on is None or not step.fit.evaluate:
        return None
    held, _ = prepare(
        runner.examples(step.validate_on),
        renderer,
        parts,
        length=step.fit.length,
        over="cut",
        max_dropped=1.0,
        train=step.train_on,
    )
    if method.reference:
        held = reference.precompute(
            scoring,
            held,
            layout,
            row=step.fit.row,
            temperature=step.fit.temperature,
            file=directory / "validation.npy",
        )

    @torch.no_grad()
    def validate() -> float:
        total = count = 0.0
        for run in micro_batches(held, step.fit.row):
            batch = layout(run)
            scores = scoring(batch, temperature=step.fit.temperature, reads=method.reads)
            values = method.objective(scores).values
            total += float((values * unit_weights(method.per, scores)).sum())
            count += units(method.per, batch)
        return total / count

    return validate
