"""What a `train` step does once it is known that it has to be done."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from turnsmith import ranks
from turnsmith.data.batch import Layout
from turnsmith.data.prepare import Terms, rendered
from turnsmith.data.render import Renderer
from turnsmith.data.store import sizes_of
from turnsmith.data.stream import Stream
from turnsmith.errors import ModelError, TrainingError, UsageError
from turnsmith.models import cost, heads, load
from turnsmith.models import rendered as rendered_as
from turnsmith.models.needs import HEADS, LAYERS, of_kind
from turnsmith.models.score import Scoring
from turnsmith.phases import phase
from turnsmith.recipes import collecting, files, sights, telling, watching
from turnsmith.recipes.installing import installed, method_of
from turnsmith.recipes.preparing import (
    Ready,
    layout_of,
    look_for_values,
    prepared,
    tell,
    tell_lost,
    terms,
    validator,
)
from turnsmith.recipes.rendering import renderer_of
from turnsmith.recipes.tokenising import tokens
from turnsmith.train import health
from turnsmith.train.attempt import attempt
from turnsmith.train.exhausted import exhausted
from turnsmith.train.health import Health
from turnsmith.train.look import Ahead
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.place import (
    Dtype,
    Place,
    arithmetic,
    computed_on,
    described,
    device,
    keep_memory,
    same_threads,
    untaken,
)
from turnsmith.train.record import CLOCK, METRICS, WATCHED, Record, Unrecorded, peak_memory_gib
from turnsmith.train.rounds import Rounds, Spent
from turnsmith.trainables.install import Learner, learning
from turnsmith.types import Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from turnsmith.recipes.run import Runner, Trained
    from turnsmith.recipes.schema import Train

SHOWN = 3  # examples whose loss mask the report shows


@phase("train")
def make(
    step: Train, runner: Runner, start: Trained, others: Mapping[str, Trained], directory: Path, seed: int
) -> dict[str, Any]:
    """Load, install, fit, save. Gives the record of the artefact."""
    told = attempt(directory, lambda said: runner.say(f"        {said}"))
    with told, exhausted(directory, step.name):
        done = _done(step, runner, start, others, directory, seed)
    if not ranks.is_main():
        return {}
    peak, described = peak_memory_gib(), _described(step, runner, done)
    if described["skipped"] == described["steps"] > 0:
        raise TrainingError(f"train {step.name}: every step was left out: the model has learnt nothing")
    model = done.learner.finished()  # what learned may not be in it any more
    done.words.chat_template = done.renderer.template
    if done.sparse:
        load.save_patch(model, done.words, directory / "model", base=start.reference)
    else:
        load.save(model, done.words, directory / "model", base=done.base)
    heads.save(done.scoring.heads, directory / "model")
    rendered_as.write(directory / "model", done.renderer)
    shutil.rmtree(directory / "checkpoints", ignore_errors=True)
    for file in directory.glob("*.npy"):
        file.unlink()
    shutil.rmtree(directory / "rounds", ignore_errors=True)
    return {
        **described,
        **_prepared_at(done),
        "dtype": done.dtype,
        "dtype_seconds": done.dtype_seconds,
        "computed_on": computed_on(done.dtype_seconds),
        "examples": len(done.examples),
        "counts": done.counts,
        "usage": done.spent.usage,
        "collecting_seconds": done.spent.seconds,
        "collecting_flops": done.spent.flops,
        "room": asdict(done.ready.space),
        "health": health.said(directory / METRICS),
        "peak_memory_gib": peak,
        "renderer": done.renderer.fingerprint,
        "start": start.reference,
        "others": {name: other.reference for name, other in others.items()},
        "watched": WATCHED if step.watch else None,
        "watch_seconds": watching.seconds(directory / WATCHED),
        "shown": shown(done.examples[:SHOWN], done.renderer),
    }


def trial(
    step: Train, runner: Runner, start: Trained, others: Mapping[str, Trained], directory: Path, seed: int
) -> dict[str, Any]:
    """Fit as `make` does, and keep nothing but what each step took: its seconds, tokens and operations.

    sizes: tokens of the examples of each step, as they stand; seen: of all of them, each once.
    """
    with exhausted(directory, step.name):
        done = _done(step.model_copy(update={"watch": None}), runner, start, others, directory, seed)
    if not ranks.is_main():
        return {}
    rows, clock = ([json.loads(line) for line in (directory / name).open()] for name in (METRICS, CLOCK))
    sizes, _ = sizes_of(done.examples)
    stream = done.ready.stream
    assert isinstance(stream, Stream)
    windows = [stream.indices(number) for number in range(len(rows))]
    for file in [*directory.glob("*.npy"), *directory.glob("checkpoints/*")]:
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    return {
        "kind": "trial",
        "sizes": [int(sizes[window].sum()) for window in windows],
        "seen": int(sizes[sorted({index for window in windows for index in window})].sum()),
        "seconds": [row["seconds"] for row in clock],
        "tokens": [row["tokens"] for row in rows],
        "flops": [row["flops"] for row in rows],
        **_prepared_at(done),
    }


class _Done(NamedTuple):
    """A step that was fitted, and what it was fitted with.

    sparse: whether all that can have changed are single weights of the start, so that these say it all.
    examples: of a step that collects, those of its last round. spent: on collecting.
    """

    scoring: Scoring
    learner: Learner
    words: PreTrainedTokenizerBase
    base: str | None
    sparse: bool
    renderer: Renderer
    examples: Sequence[Rendered]
    counts: Mapping[str, int]
    method: Method
    ready: Ready
    totals: Mapping[str, float]
    dtype: Dtype
    dtype_seconds: Mapping[str, float]
    spent: Spent


def _done(
    step: Train, runner: Runner, start: Trained, others: Mapping[str, Trained], directory: Path, seed: int
) -> _Done:
    """Load, install and fit."""
    keep_memory()
    with ranks.main_first():
        said = same_threads(directory / "threads.json")
        dtype, seconds = arithmetic(step.fit.dtype, directory / "arithmetic.json")
    for line in said:
        runner.say(f"        {line}")
    if said := described(dtype, seconds):
        runner.say(f"        {said}")
    renderer = renderer_of(start.reference)
    method, parts = method_of(step, runner)
    examples, counts = ((), {}) if step.collect else _examples(step, runner, renderer, method, parts)
    beside: dict[str, Sequence[Rendered]] = {}
    for name, data in step.beside.items():
        most = step.fit.max_dropped
        beside[name], lost = tokens(data, runner, renderer, terms(step, parts), max_dropped=most)
        tell_lost(runner, data, lost)
    _look_at_measured(runner, renderer, step.fit.length)
    runner.check_claim()
    files.check(runner.recipe, runner.registry, runner.near, rows=True)
    runner.open()
    learner, words, base = installed(step, runner, start, dtype, seed, device=device())
    view = sights.see(step, runner, words, examples=len(examples), seed=seed)
    autocast = dtype == "bfloat16"
    scoring = Scoring(learner.model, autocast=autocast, heads=method.heads, targets=method.targets, seed=seed)
    if method.words and not scoring.speaks:
        raise ModelError(
            f"train {step.name}: {start.reference} is an encoder, which predicts no words, and the objective "
            f"{step.objective.name!r} asks how likely they are: take an objective of models that judge, such "
            "as `levels` or `rated`, or a causal language model"
        )
    method = replace(method, others=_others(others, scoring, words, dtype, method))
    models = [learner.model, *(other.model for other in method.others.values())]
    layout = layout_of(runner, *models, attention=bool(of_kind(method.needs, "attention")))
    if left := heads.load(scoring.heads, start.reference):
        names = ", ".join(left)
        tell(runner, f"heads of the start that this objective does not take are left behind: {names}")
    rounds: Rounds | None = None
    if step.collect:
        ready, rounds = collecting.prepared(
            step, runner, scoring, renderer, method, parts, layout, directory, seed, view
        )
    else:
        stream = Stream(examples, batch=step.fit.batch, order=step.fit.order, seed=seed, view=view)
        changing = _changing(learner, method, stream, scoring)
        ready = prepared(step, runner, scoring, stream, method, layout, directory, changing=changing)
    validate = validator(ready.step, runner, scoring, renderer, layout, parts, method, directory)
    watch = watching.watcher(step, runner, scoring, renderer, layout, directory)
    collect = rounds.reach if rounds else None
    ahead = None
    if hasattr(method.objective, "before_step"):
        ahead = Ahead(
            scoring, method, ready.step.fit, beside,
            seed=seed, layout=layout, learner=learner, reference=ready.live,
        )  # fmt: skip
    totals = _fitted(
        ready, runner, scoring, method, layout, directory, seed, validate, learner, watch, collect, ahead
    )
    spent = rounds.spent() if rounds else Spent()
    return _Done(
        scoring,
        learner,
        words,
        base,
        _sparse(learner, words, start),
        renderer,
        ready.stream.examples,
        {**counts, **spent.counts},
        method,
        ready,
        totals,
        dtype,
        seconds,
        spent,
    )


def _examples(
    step: Train, runner: Runner, renderer: Renderer, method: Method, parts: list[str]
) -> tuple[Sequence[Rendered], Mapping[str, int]]:
    wanted = terms(step, parts)
    found = tokens(step.data, runner, renderer, wanted, max_dropped=step.fit.max_dropped)
    look_for_values(step, method, found[0])
    return found


def _sparse(learner: Learner, words: PreTrainedTokenizerBase, start: Trained) -> bool:
    """Whether single weights of the start are all that has changed: no added part, adapter or token has."""
    return (
        bool(learner.elements)
        and not hasattr(learner.part, "attach")
        and not load.has_adapter(start.reference)
        and len(words) == len(load.tokenizer(start.reference))
    )


def _changing(learner: Learner, method: Method, stream: Stream, scoring: Scoring) -> str | None:
    """Why what frozen blocks give for an example would not stay the same, or would not be enough."""
    if learner.every:
        return "what learns is chosen anew in each"
    if stream.view or method.forward:
        return "the model sees other inputs in each"
    if of_kind(method.needs, *LAYERS):
        return "the states of all layers are compared"
    if not scoring.speaks:
        return "an encoder has no log-probs by which it could be proved"
    return None


def _prepared_at(done: _Done) -> dict[str, float]:
    """What it took to compute reference log-probs and what frozen blocks give, beside the steps."""
    seen, trained = done.ready.referenced
    live = int(done.totals["tokens"]), int(done.totals["supervised"])
    forward = cost.forward_flops(done.scoring.model, *(live if done.ready.live else (seen, trained)))
    return {"preparing_seconds": done.ready.preparing, "reference_flops": forward}


def _others(
    others: Mapping[str, Trained],
    student: Scoring,
    words: PreTrainedTokenizerBase,
    dtype: Dtype,
    method: Method,
) -> dict[str, Scoring]:
    """The models that the objective speaks of, frozen. Raises ModelError where one does not have the same
    tokens as the model that learns: their probabilities could not be compared; or lacks a head that is asked
    for."""
    found: dict[str, Scoring] = {}
    judging = of_kind(method.needs, HEADS)
    for name, other in others.items():
        model, own = load.load(other.reference, dtype=dtype, device=device())
        asked = method.heads if name in judging else {}
        scoring = Scoring(model, autocast=student.autocast, heads=asked).eval().requires_grad_(False)
        for head, own_head in heads.projections(other.reference, list(asked)).items():
            scoring.heads[head] = own_head.to(scoring.device)
        sizes = [each.vocabulary for each in (scoring, student)]
        if sizes[0] != sizes[1]:
            raise ModelError(
                f"others: {name}: {other.reference} has a vocabulary of {sizes[0]:,}, the model that learns "
                f"one of {sizes[1]:,}: take a model of the same family"
            )
        if own.get_vocab() != words.get_vocab():
            raise ModelError(
                f"others: {name}: the tokens of {other.reference} are other texts than those of the model "
                "that learns: take a model with the same tokenizer"
            )
        found[name] = scoring
    return found


def _fitted(
    ready: Ready,
    runner: Runner,
    scoring: Scoring,
    method: Method,
    layout: Layout,
    directory: Path,
    seed: int,
    validate: Callable[[], float] | None,
    learner: Learner,
    watch: Callable[[int, int], None] | None,
    collect: Callable[[int], Mapping[str, float]] | None,
    ahead: Ahead | None,
) -> dict[str, float]:
    """Train, with a record of every step. Gives totals of the run."""
    fit_options = ready.step.fit
    name = ready.step.name
    place = Place(
        device=device(), trackers=fit_options.trackers, directory=runner.directory, shard=fit_options.shard
    )
    if place.sharded:
        _look_at_shards(ready.step, method, learner)
    for note in untaken():
        tell(runner, note)
    if not place.alone:
        each = "a part of the parameters" if place.sharded else "all parameters"
        runner.say(f"        on {ranks.world()} processes, each with {each}")
    with Record(directory, title=name, quiet=runner.quiet) as recorder:
        health = Health(recorder, directory / METRICS, lambda said: runner.warn(telling.fault(name, said)))
        return fit(
            scoring,
            ready.stream,
            method,
            fit_options,
            directory=directory / "checkpoints",
            recorder=health if ranks.is_main() else Unrecorded(),
            place=place,
            seed=seed,
            layout=layout,
            reference=ready.live,
            validate=validate,
            learner=learner,
            watch=watch,
            collect=collect,
            ahead=ahead,
        )


def _look_at_shards(step: Train, method: Method, learner: Learner) -> None:
    """Raise UsageError where the step reads or changes parameters of which a process holds a part only."""
    why = None
    if learner.elements:
        why = f"{step.trainable} selects single weights"
    elif method.forward or method.network or hasattr(method.objective, "before_step"):
        why = f"{step.objective} asks the model for more than a pass"
    if why:
        raise UsageError(f"{why}, which cannot be done on shards: leave fit.shard and --use_fsdp out")


def _look_at_measured(runner: Runner, renderer: Renderer, length: int) -> None:
    """Render what will be measured on: what is wrong with it should not show after the training."""
    for name, needed in runner.measured_data():
        wanted = Terms(parts=needed, length=length, over="right")
        for _ in rendered(runner.examples(name), renderer, wanted, Counter()):
            pass


def _described(step: Train, runner: Runner, done: _Done) -> dict[str, Any]:
    """What was trained, and what it took."""
    options, totals, model = runner.registry.options, done.totals, done.scoring.model
    processed = int(totals["tokens"]), int(totals["supervised"])
    beside = sum(cost.forward_flops(other.model, *processed) for other in done.method.others.values())
    before = cost.training_flops(model, 0, 0, lowest=done.ready.lowest)  # what frozen blocks gave once
    elements = done.learner.elements
    counted = {
        "learning": sum(
            int(elements[n].sum()) if n in elements else p.numel() for n, p in learning(model).items()
        ),
        "all": sum(p.numel() for p in model.parameters()),
    }
    return {
        "kind": "model",
        "objective": step.objective.name,
        "objective_options": options("objective", step.objective.name, step.objective.options),
        "trainable": step.trainable.name,
        "trainable_options": options("trainable", step.trainable.name, step.trainable.options),
        "view": str(step.view) if step.view else None,
        "fit": asdict(step.fit),
        "parameters": counted,
        "steps": int(totals["step"]),
        "asked": step.fit.total(len(done.ready.stream.examples)),  # steps; fewer where patience ended
        "skipped": int(totals["skipped"]),
        **{name: int(totals[name]) for name in ("tokens", "supervised", "slots")},
        "seconds": totals["seconds"],
        "best_step": totals.get("best_step"),
        "flops": totals["flops"] + before + beside,
        "energy_wh": cost.energy_wh(totals["seconds"], torch.get_num_threads()),
        "energy_note": cost.ENERGY_NOTE,
        "metrics": "metrics.jsonl",
    }


def shown(rendered: Sequence[Rendered], renderer: Renderer) -> list[dict[str, Any]]:
    """Examples as token texts with loss weights, for people: of each part the first sequences."""
    found: list[dict[str, Any]] = []
    for example in rendered:
        for part, ones in example.parts.items():
            name = f"{example.id} {part}" if len(example.parts) > 1 else example.id
            for number, one in enumerate(ones[:SHOWN], start=1):
                texts = renderer.texts(one.inputs.tolist())
                tokens = [
                    {"text": text, "weight": float(weight)}
                    for text, weight in zip(texts, one.weights, strict=True)
                ]
                label = f"{name} ({number} of {len(ones)})" if len(ones) > 1 else name
                found.append({"id": label, "tokens": tokens})
    return found
