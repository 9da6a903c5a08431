"""What a `train` step is fitted with: the layout of rows and how many tokens they have, the reference, what
frozen blocks give, and the measure of held-out data."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from turnsmith import ranks
from turnsmith.data.batch import Layout, fill_rows, pack, pad, stretches
from turnsmith.data.prepare import Terms
from turnsmith.data.render import Renderer
from turnsmith.data.store import sizes_of
from turnsmith.data.stream import Stream
from turnsmith.errors import DataError
from turnsmith.models import forest
from turnsmith.models.bare import bare
from turnsmith.models.score import Scoring, to
from turnsmith.recipes import telling
from turnsmith.recipes.rows import longest, over_the_row
from turnsmith.recipes.tokenising import tokens
from turnsmith.shelf import write_text
from turnsmith.train import lower, reference
from turnsmith.train.loop import Windows
from turnsmith.train.method import Method, unit_weights, units
from turnsmith.train.passes import Passes
from turnsmith.train.place import device
from turnsmith.train.room import FILE, Room, available, room
from turnsmith.types import Batch, Rendered

if TYPE_CHECKING:
    from turnsmith.recipes.run import Runner
    from turnsmith.recipes.schema import Train


def layout_of(runner: Runner, *models: nn.Module, attention: bool = False) -> Layout:
    """How rows are laid out that all these models read: packed where all can have that; otherwise a line says
    why not. attention: whether their attention is looked at, which they then compute so that it shows."""
    if attention:
        for model in models:
            whole: Any = bare(model)
            whole.set_attn_implementation("eager")
        tell(runner, "plain padded rows: the attention of models is compared")
        return pad
    refusals = [refusal for model in models if (refusal := forest.refusal(model))]
    if refusals:
        tell(runner, f"plain padded rows: {refusals[0]}")
        return pad
    for model in models:
        forest.attach(model)
    return pack


def tell(runner: Runner, note: str | None) -> None:
    """Say once what a reader of the report should know as well."""
    runner.warn(note)


def tell_lost(runner: Runner, data: str, counts: Mapping[str, int]) -> None:
    """Say what was cut or dropped of data that a step uses beside what it learns from."""
    if counts:
        tell(runner, f"of {data}: {telling.reasons(counts)}")


def terms(step: Train, parts: Sequence[str]) -> Terms:
    """What the step wants of examples as tokens."""
    fit = step.fit
    return Terms(parts=tuple(parts), length=fit.length, over=fit.over, train=step.train_on)


def look_for_values(step: Train, method: Method, examples: Sequence[Rendered]) -> None:
    """Raise DataError where the examples lack a number that the objective needs; some that have it and some
    that do not are refused where they are batched."""
    for name in method.values:
        if name not in examples[0].values:
            raise DataError(
                f"example {examples[0].id!r} of {step.data!r} has no value {name!r}, which the objective "
                f"{step.objective.name!r} needs: give it one with the stage `value`"
            )


class Ready(NamedTuple):
    """What a step is fitted with.

    step: with the rows that memory allows. lowest: tokens whose states of frozen blocks are kept, if any are.
    preparing: seconds that these and the reference took. referenced: tokens with a reference computed before,
    all and trained ones.
    """

    step: Train
    stream: Windows
    live: Callable[[Batch], Tensor] | None
    space: Room
    lowest: int | None
    preparing: float
    referenced: tuple[int, int]


def prepared(
    step: Train,
    runner: Runner,
    scoring: Scoring,
    stream: Stream,
    method: Method,
    layout: Layout,
    directory: Path,
    *,
    changing: str | None,
) -> Ready:
    """Choose rows by memory, keep what frozen blocks give, compute the reference; say what is other than
    asked. changing: why what frozen blocks give would not stay the same, where it would not."""
    examples, asked = stream.examples, step.fit
    seen = np.flatnonzero(stream.times(asked.total(len(examples))))
    most = longest(examples, seen, asked.row, layout, method.per)
    with ranks.main_first():
        space = room(scoring, layout, asked, most, free=available(device()), file=directory / FILE)
    tell(runner, space.said)
    used = step.model_copy(update={"fit": replace(asked, row=space.row)})
    for note in over_the_row(examples, seen, space.row, layout, method.per):
        tell(runner, note)
    live, started, referenced = None, time.perf_counter(), (0, 0)
    if method.reference and used.fit.reference == "live":
        probe = layout(fill_rows(stream.window(0), space.row, layout=layout, per=method.per)[0])
        live = reference.live(scoring, probe, temperature=used.fit.temperature)
    kept, note = lower.keep(scoring, stream, layout, used.fit, directory, changing=changing, say=runner.say)
    tell(runner, note)
    if method.reference and live is None:
        stream = _with_reference(stream, scoring, used, layout, seen, directory)
        sizes, trained = sizes_of(examples)
        referenced = int(sizes[seen].sum()), int(trained[seen].sum())
    preparing = _longest_of(directory / "preparing.json", time.perf_counter() - started)
    return Ready(used, stream, live, space, kept.rows if kept else None, preparing, referenced)


def _longest_of(file: Path, seconds: float) -> float:
    """The seconds, or those of an attempt that was interrupted later, which are in `file` and longer."""
    before = json.loads(file.read_text()) if file.exists() else 0.0
    if seconds > before:
        write_text(file, json.dumps(seconds))
    return max(seconds, before)


def _with_reference(
    stream: Stream, scoring: Scoring, step: Train, layout: Layout, seen: np.ndarray, directory: Path
) -> Stream:
    """The stream with reference log-probs on those examples that the run will see."""
    with ranks.main_first():
        examples = reference.precompute(
            scoring,
            stream.examples,
            layout,
            row=step.fit.row,
            temperature=step.fit.temperature,
            file=directory / "reference.npy",
            wanted=seen,
        )
    return Stream(examples, batch=stream.batch, order=stream.order, seed=stream.seed, view=stream.view)


def validator(
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
    held, lost = tokens(step.validate_on, runner, renderer, terms(step, parts), max_dropped=1.0)
    tell_lost(runner, step.validate_on, lost)
    if method.reference:
        with ranks.main_first():
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
        deal = functools.partial(fill_rows, row=step.fit.row, layout=layout, per=method.per)
        for run in (run for window in stretches(held) for run in deal(window)):
            batch = to(layout(run), scoring.device)
            values = Passes(scoring, scoring, batch, method, step.fit.temperature).loss().values
            total += float((values * unit_weights(method.per, batch)).sum())
            count += units(method.per, batch)
        return total / count

    return validate
