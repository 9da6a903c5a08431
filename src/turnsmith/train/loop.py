"""The loop: windows of examples to optimiser steps. It knows units and windows, never conversations or
methods."""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from turnsmith import seeds
from turnsmith.data.batch import Layout, fill_rows, pack
from turnsmith.errors import TrainingError
from turnsmith.models import cost
from turnsmith.models.score import Scoring
from turnsmith.phases import each
from turnsmith.train import checkpoint, refusal
from turnsmith.train.learning import Learning
from turnsmith.train.look import Ahead
from turnsmith.train.method import Method, unit_weights, units
from turnsmith.train.optim import adamw, carried, rate
from turnsmith.train.options import Fit
from turnsmith.train.passes import Passes
from turnsmith.train.penalty import Penalty
from turnsmith.train.place import Place
from turnsmith.train.progress import Progress
from turnsmith.train.shard import unshard
from turnsmith.train.stop import Interrupted, gently
from turnsmith.train.trial import Trial
from turnsmith.trainables.install import Learner
from turnsmith.trainables.install import learning as learns
from turnsmith.types import Batch, Rendered


class Recorder(Protocol):
    """Where a run's figures go."""

    def step(self, values: Mapping[str, float]) -> None: ...
    def rewind(self, step: int) -> None: ...


class Windows(Protocol):
    """What is learnt from: the examples of each step."""

    @property
    def examples(self) -> Sequence[Rendered]: ...
    def window(self, step: int) -> list[Rendered]: ...
    def epoch(self, step: int) -> int: ...


def fit(
    scoring: Scoring,
    stream: Windows,
    method: Method,
    options: Fit,
    *,
    directory: Path,
    recorder: Recorder,
    place: Place,
    seed: int,
    layout: Layout = pack,
    reference: Callable[[Batch], Tensor] | None = None,
    validate: Callable[[], float] | None = None,
    learner: Learner | None = None,
    watch: Callable[[int, int], None] | None = None,
    collect: Callable[[int], Mapping[str, float]] | None = None,
    ahead: Ahead | None = None,
) -> dict[str, float]:
    """Train what learns in `scoring`, going on from a checkpoint in `directory` if there is one.

    layout: lays out a micro-batch. reference: gives live reference log-probs (N,) of a batch. validate: a
    number, lower is better; the best state, the start included, is what the model is left with, and the run
    ends where `options.patience` is at its end, all processes alike since they validate alike. learner: the
    trainable, where it adds to the loss, selects elements, or chooses anew what learns: what then goes on
    learning keeps its optimiser state, what freezes loses it.
    watch: is told the steps done, 0 too, and of how many; its time is not counted, and it leaves no trace.
    collect: is told a step before it begins, so that the stream has its window, and gives figures of what
    the model drew for it; its time is counted apart.
    ahead: looks at each window before its step, and gives its examples values.
    Gives totals of the run. Where loss or gradient of a step is no number, neither parameters nor optimiser
    see the step: TrainingError names its examples, and the state before it is kept as a checkpoint; or it is
    left out and counted as `skipped`, as `options.nonfinite` says, but never more than 10 in a row.
    Bit-identical on CPU in fp32 whether interrupted or not: all randomness is keyed by seed and step.
    """
    chooser = learner if learner is not None and learner.every else None
    if chooser and (chosen := checkpoint.chosen(directory)) is not None:
        chooser.take(dict.fromkeys(chosen, True))
    module = place.prepare(scoring)
    learning = _learning(scoring, learner)
    # What may have learned by the end: where what learns changes, anything.
    followers = {f"heads.{name}": copy for name, copy in scoring.heads.copies.items()}
    kept = dict(scoring.named_parameters()) if chooser else {**learning.parameters, **followers}
    optimizer = adamw(learning.parameters.values(), options)
    total = options.total(len(stream.examples))
    run = Progress(scoring, kept, directory, place, validate if options.evaluate else None)
    if run.resume(optimizer):
        learning.scatter()
    recorder.rewind(run.step)
    scoring.train()
    for other in method.others.values():
        other.to(place.accelerator.device)
    if run.validate and not run.step:  # a run may end no better than it began
        run.measure()
    if watch and not run.step:
        watch(0, total)
    with gently() as stop:
        left = range(run.step, run.step if run.ended(total, options.patience) else total)
        for step in each("step", left):
            figures = collect(step) if collect else {}
            started = time.perf_counter()
            lr, flops, window = rate(options, step, total), 0.0, stream.window(step)
            if ahead:
                window, flops = ahead.valued(window, step, total, lr)
            drawn = seeds.number(seed, "drawn", step)

            def backward(
                step: int = step, window: Sequence[Rendered] = window, drawn: int = drawn
            ) -> dict[str, float]:
                torch.manual_seed(seeds.number(seed, "step", step, place.rank))  # dropout
                return _window(
                    module, scoring, window, method, options, place, layout, reference, learner, drawn
                )

            if chooser and _due(chooser.every, stream, step):
                trial = Trial(scoring, chooser, optimizer, options, lr, backward, place)
                work = cost.work(_laid_out(window, method, options, layout))
                chooser.choose(stream.epoch(step), trial, work)
                flops += trial.flops
                learning = _learning(scoring, learner)
                optimizer = carried(optimizer, learning.parameters, options)
            for group in optimizer.param_groups:
                group["lr"] = lr
            values = backward()
            learning.gather()
            values["flops"] += flops
            values["gradient"] = place.clip(learning.parameters.values(), options.clip or math.inf)
            if chooser:
                run.state["learns"] = sorted(learns(chooser.model))
            if not place.any(not refusal.sound(values)):
                optimizer.step()
                learning.scatter()
                scoring.heads.follow()
                run.state["refused"] = 0
            else:
                broken = refusal.culprits(
                    scoring, window, method, layout,
                    temperature=options.temperature, reference=reference, seed=drawn,
                )  # fmt: skip
                _refused(refusal.said(step + 1, values, window, broken), run, options, optimizer)
                values["skipped"] = 1.0
            optimizer.zero_grad(set_to_none=True)
            run.done(values)
            values |= {"step": step + 1, "total": total, "lr": lr, **figures}
            if run.validate and ((step + 1) % options.evaluate == 0 or step + 1 == total):
                values["validation"] = run.measure()
            ended = run.ended(total, options.patience)
            values["seconds"] = time.perf_counter() - started
            run.state["seconds"] += values["seconds"]
            recorder.step(values)
            place.log({k: v for k, v in values.items() if k not in ("step", "total")}, step + 1)
            if watch:  # before the checkpoint: a run that is killed between them measures again
                watch(step + 1, step + 1 if ended else total)
            asked = place.any(stop.asked)  # once: a signal may come between two looks, or to one process only
            if (step + 1) % options.checkpoint == 0 or ended or asked:
                run.save(optimizer)
            if asked:
                raise Interrupted
            if ended:
                break
    run.restore()
    learning.scatter()
    if place.sharded:
        unshard(scoring)
    scoring.eval()
    return run.totals()


def _learning(scoring: Scoring, learner: Learner | None) -> Learning:
    elements = {f"model.{name}": which for name, which in learner.elements.items()} if learner else {}
    return Learning(scoring, elements)


def _due(every: int, stream: Windows, step: int) -> bool:
    """Whether what learns is chosen anew before this step: at the start, and after every so many epochs."""
    epoch = stream.epoch(step)
    return not step or (epoch != stream.epoch(step - 1) and epoch % every == 0)


def _laid_out(window: Sequence[Rendered], method: Method, options: Fit, layout: Layout) -> list[Batch]:
    """The micro-batches of a window."""
    return [layout(run) for run in fill_rows(window, options.row, layout=layout, per=method.per)]


def _window(
    module: nn.Module,
    scoring: Scoring,
    window: Sequence[Rendered],
    method: Method,
    options: Fit,
    place: Place,
    layout: Layout,
    reference: Callable[[Batch], Tensor] | None,
    learner: Learner | None,
    seed: int,
) -> dict[str, float]:
    """Gradients of one window, however it is cut and dealt out; gives its loss, metrics and counts."""
    batches = _laid_out(window, method, options, layout)
    denominator = sum(units(method.per, batch) for batch in batches)
    if denominator == 0:
        raise TrainingError("a step without a trained token: " + ", ".join(x.id for x in window))
    sums: dict[str, float] = {"loss": 0.0}
    penalty = Penalty(learner, batches, place, functools.partial(scoring, temperature=options.temperature))
    alone = penalty.passes
    for batch, factor, last in place.mine(batches):
        with place.quiet(module, last):
            known = reference(batch) if reference else None
            passes = Passes(module, scoring, batch, method, options.temperature, reference=known, seed=seed)
            loss = passes.loss()
            weights = unit_weights(method.per, batch)
            value = (loss.values * weights).sum() / denominator
            place.backward(value * factor + penalty.share(batch, factor, last))
        alone = penalty.passes + passes.alone
        mine = float(factor > 0)
        sums["loss"] += float(value.detach()) * mine
        for name, per_unit in loss.metrics.items():
            sums[name] = sums.get(name, 0.0) + float((per_unit * weights).sum()) / denominator * mine
    tokens = sum(batch.tokens for batch in batches)
    supervised = sum(int((batch.weights > 0).sum()) for batch in batches)
    lowest = None if scoring.lower is None else 0
    flops = cost.training_flops(scoring.model, tokens, supervised, lowest=lowest)
    return {
        **place.total(sums),
        **({} if penalty.value is None else {"penalty": penalty.value}),
        "tokens": tokens,
        "slots": sum(batch.slots for batch in batches),
        "supervised": supervised,
        "flops": flops + alone * cost.forward_flops(scoring.model, tokens, supervised),
    }


def _refused(said: str, run: Progress, options: Fit, optimizer: torch.optim.Optimizer) -> None:
    """Count a step that is left out, or keep the state before it and raise TrainingError."""
    state, accelerator = run.state, run.place.accelerator
    if options.nonfinite == "stop" or state["refused"] == refusal.RUN:
        if run.place.any(checkpoint.newest(run.directory) < run.step):
            run.save(optimizer)
        accelerator.wait_for_everyone()  # who fails first has the others ended, by torchrun
        raise TrainingError(f"{said}. {refusal.way_out(run.step + 1, state['refused'])}")
    state["skipped"] += 1
    state["refused"] += 1
    if accelerator.is_main_process:
        print(f"{said}. The step is left out (fit.nonfinite: skip)", file=sys.stderr)
