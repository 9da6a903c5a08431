"""The loop: windows of examples to optimiser steps. It knows units and windows, never conversations or
methods."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from turnsmith import seeds
from turnsmith.data.batch import Layout, fill_rows, pack
from turnsmith.data.stream import Stream
from turnsmith.errors import TrainingError
from turnsmith.models.score import Scoring
from turnsmith.models.score import scores as scores_of
from turnsmith.registry import Per
from turnsmith.train import checkpoint
from turnsmith.train.optim import adamw, rate
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.train.stop import Interrupted, gently
from turnsmith.types import Batch, Loss, Rendered, Scores, Size


@dataclass(frozen=True, slots=True)
class Method:
    """An objective with its options filled in, and the traits that the loop needs.

    others: the models that some of its `needs` are against, by name; they do not learn.
    """

    objective: Callable[[Scores], Loss]
    per: Per
    reference: bool = False
    reads: tuple[str, ...] = ()
    linear: bool = False
    needs: tuple[str, ...] = ()
    heads: Mapping[str, Size] = field(default_factory=dict[str, "Size"])
    others: Mapping[str, Scoring] = field(default_factory=dict[str, Scoring])

    def __post_init__(self) -> None:
        if self.linear and (self.needs or self.heads):
            raise ValueError("linear objectives see log-probs only: declare linear, or needs and heads")


class Recorder(Protocol):
    """Where a run's figures go."""

    def step(self, values: Mapping[str, float]) -> None: ...
    def rewind(self, step: int) -> None: ...


def fit(
    scoring: Scoring,
    stream: Stream,
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
    redraw: Callable[[int], None] | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Train what learns in `scoring`, going on from a checkpoint in `directory` if there is one.

    layout: lays out a micro-batch. reference: gives live reference log-probs (N,) of a batch. validate: a
    number, lower is better; the best state, the start included, is what the model is left with. redraw:
    chooses what learns in an epoch; what goes on learning keeps its optimiser state, what freezes loses it.
    watch: is told the steps done, 0 too, and of how many; its time is not counted, and it leaves no trace.
    Gives totals of the run. Raises TrainingError where the loss is no number. Bit-identical on CPU in fp32
    whether interrupted or not: all randomness is keyed by seed and step.
    """
    if redraw and (done := checkpoint.newest(directory)):
        redraw(stream.epoch(done - 1))
    learning = _learning(scoring)
    kept = dict(scoring.named_parameters()) if redraw else learning  # what may have learned by the end
    optimizer = adamw(learning.values(), options)
    total = options.total(len(stream.examples))
    state: dict[str, Any] = {
        "step": 0,
        "tokens": 0,
        "supervised": 0,
        "slots": 0,
        "seconds": 0.0,
        "best": None,
    }
    best: dict[str, Tensor] | None = None
    resumed = checkpoint.load(directory, kept, optimizer)
    if resumed:
        state, best = resumed
    recorder.rewind(state["step"])
    scoring.train()
    module = place.prepare(scoring)
    for other in method.others.values():
        other.to(place.accelerator.device)
    if validate and options.evaluate and not state["step"]:  # a run may end no better than it began
        _, best = _keep_best(scoring, kept, validate, state, best)
    if watch and not state["step"]:
        watch(0, total)
    with gently() as stop:
        for step in range(state["step"], total):
            started = time.perf_counter()
            if redraw and step and stream.epoch(step) != stream.epoch(step - 1):
                redraw(stream.epoch(step))
                learning = _learning(scoring)
                optimizer = _carried(optimizer, learning, options)
            for group in optimizer.param_groups:
                group["lr"] = rate(options, step, total)
            torch.manual_seed(seeds.number(seed, "step", step, place.rank))  # dropout
            values = _window(module, stream.window(step), method, options, place, layout, reference)
            values["gradient"] = place.clip(learning.values(), options.clip or math.inf)
            _refuse_nonsense(step, values)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            state["step"] = step + 1
            for name in ("tokens", "supervised", "slots"):
                state[name] += int(values[name])
            values |= {"step": step + 1, "total": total, "lr": rate(options, step, total)}
            if validate and options.evaluate and ((step + 1) % options.evaluate == 0 or step + 1 == total):
                values["validation"], best = _keep_best(scoring, kept, validate, state, best)
            values["seconds"] = time.perf_counter() - started
            state["seconds"] += values["seconds"]
            recorder.step(values)
            place.log({k: v for k, v in values.items() if k not in ("step", "total")}, step + 1)
            if watch:  # before the checkpoint: a run that is killed between them measures again
                watch(step + 1, total)
            asked = place.any(stop.asked)  # once: a signal may come between two looks, or to one process only
            due = (step + 1) % options.checkpoint == 0 or step + 1 == total or asked
            if due and place.accelerator.is_main_process:
                checkpoint.save(directory, step + 1, kept, optimizer, state, best)
            if asked:
                raise Interrupted
    if best is not None:
        with torch.no_grad():
            for name, parameter in kept.items():
                parameter.copy_(best[name])
    scoring.eval()
    return {name: value for name, value in state.items() if isinstance(value, int | float)}


def _learning(scoring: Scoring) -> dict[str, nn.Parameter]:
    return {name: p for name, p in scoring.named_parameters() if p.requires_grad}


def _carried(
    old: torch.optim.Optimizer, learning: Mapping[str, nn.Parameter], options: Fit
) -> torch.optim.Optimizer:
    """An optimiser of what learns now, with the state of what learned before."""
    optimizer = adamw(learning.values(), options)
    optimizer.state.update({p: old.state[p] for p in learning.values() if p in old.state})
    return optimizer


def _window(
    module: nn.Module,
    window: Sequence[Rendered],
    method: Method,
    options: Fit,
    place: Place,
    layout: Layout,
    reference: Callable[[Batch], Tensor] | None,
) -> dict[str, float]:
    """Gradients of one window, however it is cut and dealt out; gives its loss, metrics and counts."""
    runs = fill_rows(window, options.row, layout=layout, per=method.per)
    batches = [layout(run) for run in runs]
    denominator = sum(units(method.per, batch) for batch in batches)
    if denominator == 0:
        raise TrainingError("a step without a trained token: " + ", ".join(x.id for x in window))
    sums: dict[str, float] = {"loss": 0.0}
    for batch, factor, last in place.mine(batches):
        with place.quiet(module, last):
            scores: Scores = module(
                batch,
                temperature=options.temperature,
                reads=method.reads,
                needs=method.needs,
                others=method.others,
                expected=slope(method, batch) if method.linear else None,
            )
            if reference is not None:
                scores = replace(scores, reference=reference(batch))
            loss = method.objective(scores)
            weights = unit_weights(method.per, scores)
            value = (loss.values * weights).sum() / denominator
            place.backward(value * factor)
        mine = float(factor > 0)
        sums["loss"] += float(value.detach()) * mine
        for name, per_unit in loss.metrics.items():
            sums[name] = sums.get(name, 0.0) + float((per_unit * weights).sum()) / denominator * mine
    return {
        **place.total(sums),
        "tokens": sum(batch.tokens for batch in batches),
        "slots": sum(batch.slots for batch in batches),
        "supervised": sum(int((batch.weights > 0).sum()) for batch in batches),
    }


def slope(method: Method, batch: Batch) -> Tensor:
    """(N,): the derivative of a linear objective's sum with respect to the log-probs, whatever they are."""
    logprobs = torch.zeros_like(batch.weights, requires_grad=True)
    found = scores_of(batch, logprobs)
    loss = (method.objective(found).values * unit_weights(method.per, found)).sum()
    return torch.autograd.grad(loss, logprobs)[0]


def units(per: Per, batch: Batch) -> float:
    """What the sum of the losses is divided by, counted from the batch."""
    if per == "token":
        return float(batch.weights.sum())
    return float(len(batch.paths) if per == "sequence" else len(batch.ids))


def unit_weights(per: Per, scores: Scores) -> Tensor:
    """The weight of each unit: of the tokens their own, else 1."""
    if per == "token":
        return scores.weights
    return scores.weights.new_ones(len(scores.paths) if per == "sequence" else scores.examples)


def _refuse_nonsense(step: int, values: Mapping[str, float]) -> None:
    if not math.isfinite(values["gradient"]) or not math.isfinite(values["loss"]):
        raise TrainingError(
            f"step {step + 1}: the loss is {values['loss']} and the gradient norm {values['gradient']}. "
            "Lower the learning rate, or look at the data with `turnsmith check`; the last checkpoint is "
            "whole"
        )


def _keep_best(
    scoring: Scoring,
    learning: Mapping[str, nn.Parameter],
    validate: Callable[[], float],
    state: dict[str, Any],
    best: dict[str, Tensor] | None,
) -> tuple[float, dict[str, Tensor] | None]:
    scoring.eval()
    value = validate()
    scoring.train()
    if math.isfinite(value) and (state["best"] is None or value < state["best"]):
        state["best"], state["best_step"] = value, state["step"]
        best = {name: p.detach().clone() for name, p in learning.items()}
    return value, best
