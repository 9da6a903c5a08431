"""What a `train` step will take, told before it starts; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from turnsmith.data.store import sizes_of
from turnsmith.data.stream import Stream
from turnsmith.models import load, locate
from turnsmith.recipes import wiring
from turnsmith.recipes.component import bare
from turnsmith.recipes.preparing import terms
from turnsmith.recipes.rendering import renderer_of
from turnsmith.recipes.schema import flat
from turnsmith.recipes.tokenising import tokens
from turnsmith.recipes.training import SHOWN, shown
from turnsmith.train.place import device, faster_dtype

if TYPE_CHECKING:
    from turnsmith.data.render import Renderer
    from turnsmith.recipes.run import Runner
    from turnsmith.recipes.schema import Train
    from turnsmith.types import Rendered

EFFICIENCY = 0.35  # of a plain matrix product's speed that a training step reaches, measured on two cores
PRODUCT = 2 * 512 * 1024 * 1024  # operations of the product that `faster_dtype` times
ACTIVATIONS = 60  # values of hidden size kept per token and layer for the backward pass, about


def forecast(step: Train, runner: Runner) -> dict[str, Any]:
    """Examples with their masks, what would be cut, and estimates of tokens, minutes and memory."""
    start = runner.models.get(step.start, runner.models["base"])[0]
    renderer = renderer_of(start.reference)
    examples, counts = _examples(step, runner, renderer)
    stream = Stream(examples, batch=step.fit.batch, order=step.fit.order, seed=runner.recipe.seed)
    steps = step.fit.total(len(examples))
    sizes, trained = sizes_of(examples)
    times = stream.times(steps)
    processed = int((times * sizes).sum())
    parameters = load.parameters(start.reference)
    _, seconds = faster_dtype(device())
    chosen = min(seconds.values()) if step.fit.dtype == "auto" else seconds[step.fit.dtype]
    adds = wiring.adds(step.trainable.name, runner.registry)
    passes = 4 if adds else 6
    beside = _beside(step, runner)
    speed = PRODUCT / chosen * EFFICIENCY
    return {
        "name": step.name,
        "examples": len(examples),
        "counts": dict(counts),
        "steps": steps,
        "tokens": processed,
        "supervised": int((times * trained).sum()),
        "minutes": (parameters * passes + beside * 2) * processed / speed / 60,
        "memory_gib": _memory(start.reference, parameters, beside, step, adds=adds),
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
    parts = runner.registry.entry("objective", step.objective.name).names("parts") or ("text",)
    return tokens(step.data, runner, renderer, terms(step, parts), max_dropped=step.fit.max_dropped)


def _beside(step: Train, runner: Runner) -> int:
    """How many numbers the models beside the one that learns hold; of one that is yet to be made, the
    base's."""
    steps = flat(runner.recipe.steps)
    made = {"base", *(model.name for one in steps if (model := one.train or one.merge) is not None)}
    base = runner.models["base"][0].reference
    references = (base if bare(name) in made else name for name in step.others.values())
    return sum(map(load.parameters, references))


def _memory(reference: str, parameters: int, beside: int, step: Train, *, adds: bool) -> float:
    """Weights, optimiser and activations of one micro-batch, in GiB; 0.6 for Python and the libraries."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        locate.foundation(reference), trust_remote_code=False
    ).get_text_config()
    width = 4 if step.fit.dtype == "float32" else 2
    learning = parameters * (0.05 if adds else 1) * 16
    kept = step.fit.row * config.num_hidden_layers * config.hidden_size * ACTIVATIONS * width
    return ((parameters + beside) * width + learning + kept) / 2**30 + 0.6
