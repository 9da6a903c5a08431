"""What a `train` step will take, told before it starts; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from turnsmith.data.store import sizes_of
from turnsmith.data.stream import Stream
from turnsmith.models import load
from turnsmith.models.hollow import hollow, valueless
from turnsmith.models.needs import of_kind
from turnsmith.models.score import Scoring
from turnsmith.recipes import wiring
from turnsmith.recipes.component import bare
from turnsmith.recipes.installing import installed, method_of
from turnsmith.recipes.preparing import layout_of, terms
from turnsmith.recipes.rendering import renderer_of
from turnsmith.recipes.rows import longest
from turnsmith.recipes.schema import flat
from turnsmith.recipes.tokenising import tokens
from turnsmith.recipes.training import SHOWN, shown
from turnsmith.train.place import Dtype, device, faster_dtype
from turnsmith.train.room import Room, available, room

if TYPE_CHECKING:
    from turnsmith.data.render import Renderer
    from turnsmith.recipes.run import Runner, Trained
    from turnsmith.recipes.schema import Train
    from turnsmith.types import Rendered

EFFICIENCY = 0.35  # of a plain matrix product's speed that a training step reaches, measured on two cores
PRODUCT = 2 * 512 * 1024 * 1024  # operations of the product that `faster_dtype` times


def forecast(step: Train, runner: Runner) -> dict[str, Any]:
    """Examples with their masks, what would be cut, and estimates of tokens, minutes and memory.

    memory_gib: the peak, or None where it cannot be told before the weights are there; memory_said: why not,
    or what is chosen for want of memory, empty where nothing is.
    """
    start = runner.models.get(step.start, runner.models["base"])[0]
    renderer = renderer_of(start.reference)
    examples, counts = _examples(step, runner, renderer)
    stream = Stream(examples, batch=step.fit.batch, order=step.fit.order, seed=runner.recipe.seed)
    steps = step.fit.total(len(examples))
    sizes, trained = sizes_of(examples)
    times = stream.times(steps)
    processed = int((times * sizes).sum())
    parameters = load.parameters(start.reference)
    faster, seconds = faster_dtype(device())
    dtype: Dtype = faster if step.fit.dtype == "auto" else step.fit.dtype
    passes = 4 if wiring.adds(step.trainable.name, runner.registry) else 6
    beside = _beside(step, runner)
    speed = PRODUCT / seconds[dtype] * EFFICIENCY
    peak, said = _memory(step, runner, start, stream, dtype, beside)
    return {
        "name": step.name,
        "examples": len(examples),
        "counts": dict(counts),
        "steps": steps,
        "tokens": processed,
        "supervised": int((times * trained).sum()),
        "minutes": (parameters * passes + beside * 2) * processed / speed / 60,
        "memory_gib": peak,
        "memory_said": said,
        "shown": shown(examples[:SHOWN], renderer),
    }


def counted(step: Train, runner: Runner) -> tuple[np.ndarray, Callable[[int], np.ndarray]]:
    """(E,) tokens of each example of a `train` step, and how often each is seen in so many optimiser
    steps."""
    examples, _ = _examples(step, runner, renderer_of(runner.model(step.start).reference))
    stream = Stream(examples, batch=step.fit.batch, order=step.fit.order, seed=runner.recipe.seed)
    return sizes_of(examples)[0], stream.times


def _examples(
    step: Train, runner: Runner, renderer: Renderer
) -> tuple[Sequence[Rendered], Mapping[str, int]]:
    """What the step will see, and what is cut or dropped."""
    parts = runner.registry.entry("objective", step.objective.name).parts
    return tokens(step.data, runner, renderer, terms(step, parts), max_dropped=step.fit.max_dropped)


def _beside(step: Train, runner: Runner) -> int:
    """How many numbers the models beside the one that learns hold; of one that is yet to be made, the
    base's."""
    steps = flat(runner.recipe.steps)
    made = {"base", *(model.name for one in steps if (model := one.train or one.merge) is not None)}
    base = runner.models["base"][0].reference
    references = (base if bare(name) in made else name for name in step.others.values())
    return sum(map(load.parameters, references))


def _memory(
    step: Train, runner: Runner, start: Trained, stream: Stream, dtype: Dtype, beside: int
) -> tuple[float | None, str]:
    """The peak in GiB, None where it cannot be told, and what there is to say of it."""
    if named := wiring.loaded("trainable", step.trainable, runner.registry):
        return None, f"memory is not estimated: {step.trainable.name} chooses by the weights of {named[0]!r}"
    try:
        space = _room(step, runner, start, stream, dtype, beside)
    except RuntimeError as error:
        if not valueless(error):
            raise
        return None, f"memory is not estimated: {step.trainable.name} depends on the values of weights"
    return space.peak / 2**30, space.said


def _room(step: Train, runner: Runner, start: Trained, stream: Stream, dtype: Dtype, beside: int) -> Room:
    """What the training would choose by memory, found with the same formula, on weights without values."""
    learner, _, _ = installed(step, runner, start, dtype, runner.recipe.seed, device="meta")
    method, _ = method_of(step, runner)
    layout = layout_of(runner, learner.model, attention=bool(of_kind(method.needs, "attention")))
    scoring = Scoring(
        hollow(learner.model, device()),
        autocast=dtype == "bfloat16",
        heads=method.heads,
        targets=method.targets,
        proved=False,
    )
    own = sum(tensor.nbytes for tensor in (*learner.model.parameters(), *learner.model.buffers()))
    coming = own + beside * getattr(torch, dtype).itemsize
    seen = np.flatnonzero(stream.times(step.fit.total(len(stream.examples))))
    most = longest(stream.examples, seen, step.fit.row, layout, method.per)
    return room(scoring, layout, step.fit, most, free=available(device()) - coming, coming=coming)
