"""What a `train` step learns from where the model that learns makes it: prompts are put through stages, round
by round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from turnsmith import ranks, seeds
from turnsmith.data.batch import Layout
from turnsmith.data.prepare import hold_to, rendered
from turnsmith.data.render import Renderer
from turnsmith.data.store import sizes_of
from turnsmith.data.stream import Places
from turnsmith.errors import UsageError
from turnsmith.models import cost
from turnsmith.models.score import Scoring
from turnsmith.recipes import sights
from turnsmith.recipes.preparing import Ready, look_for_values, tell, terms
from turnsmith.recipes.reading import Seeded, chats_of, distinct, filled, put_through
from turnsmith.recipes.watching import undisturbed
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import LocalEngine
from turnsmith.train import reference
from turnsmith.train.credit import credit
from turnsmith.train.method import Method
from turnsmith.train.place import device
from turnsmith.train.room import FILE, available, probe, room
from turnsmith.train.rounds import Making, Rounds, Spent
from turnsmith.types import Batch, Chat, Example, Rendered

if TYPE_CHECKING:
    from turnsmith.recipes.run import Runner
    from turnsmith.recipes.schema import Train


def prepared(
    step: Train,
    runner: Runner,
    scoring: Scoring,
    renderer: Renderer,
    method: Method,
    parts: Sequence[str],
    layout: Layout,
    directory: Path,
    seed: int,
    view: sights.See | None,
) -> tuple[Ready, Rounds]:
    """Rows by memory, and rounds that are made as the training comes to them. Nothing is sampled yet.

    Raises UsageError where several processes train.
    """
    assert step.collect is not None
    if ranks.world() > 1:
        raise UsageError("`collect` works in one process only so far: train on one device")
    longest = min(step.fit.row, step.fit.length)  # what is yet to be made is not known to be shorter
    file = directory / FILE
    space = room(scoring, layout, step.fit, longest, free=available(device()), file=file)
    tell(runner, space.said)
    used = step.model_copy(update={"fit": replace(step.fit, row=space.row)})
    fit = used.fit
    start: Callable[[Batch], Tensor] | None = None
    if method.reference:  # while the model still is what it starts from
        start = reference.live(scoring, layout([probe(scoring)]), temperature=fit.temperature)

    def render(examples: Sequence[Example], counts: Counter[str]) -> list[Rendered]:
        found = list(rendered(examples, renderer, terms(step, parts), counts))
        hold_to(fit.max_dropped, kept=len(found), examples=len(examples), length=fit.length)
        look_for_values(step, method, found)
        return found

    def credited(examples: Sequence[Rendered]) -> tuple[dict[str, np.ndarray], float]:
        made = credit(
            scoring, examples, method, layout, row=fit.row, temperature=fit.temperature, reference=start
        )
        tokens, trained = (int(sizes.sum()) for sizes in sizes_of(examples))
        passes = bool(start) + bool(method.credit)
        return made, passes * cost.forward_flops(scoring.model, tokens, trained)

    making = Making(_gathering(step, runner, scoring, renderer, seed), render, credited)
    rounds = Rounds(
        directory / "rounds",
        making,
        epochs=step.collect.epochs,
        batch=fit.batch,
        order=fit.order,
        seed=seed,
        view=view,
    )
    return Ready(used, rounds, None, space, None, 0.0, (0, 0)), rounds


def _gathering(
    step: Train, runner: Runner, scoring: Scoring, renderer: Renderer, seed: int
) -> Callable[[int], tuple[list[Example], Spent]]:
    """What makes a round's examples. Its prompts follow those of the round before, in an order that depends
    on the seed; what is drawn depends on the seed and the round."""
    assert step.collect is not None
    stages = step.collect.stages
    prompts = runner.examples(step.data)
    places = Places(
        len(prompts),
        batch=step.collect.examples,
        order=step.fit.order,
        seed=seeds.number(seed, "prompts"),
    )
    engine = LocalEngine(scoring.model, stop=renderer.stops, autocast=scoring.autocast)
    numbers = sum(parameter.numel() for parameter in scoring.model.parameters())
    live: dict[str, tuple[Chat, int]] = {step.name: (LocalChat(engine, renderer), numbers)}
    given = [filled(component, runner, seed, Random(0), live) for component in stages]  # seeded each round

    def gather(number: int) -> tuple[list[Example], Spent]:
        counts: Counter[str] = Counter()
        chats: list[Seeded] = []
        examples = _apart([prompts[place] for place in places.window(number)])
        with undisturbed(scoring):
            for at, (component, options) in enumerate(zip(stages, given, strict=True)):
                for chat in chats_of(options):
                    chat.anew(seeds.number(seed, "collect", number, at))
                if "rng" in options:
                    options["rng"] = seeds.stream(seed, "collect", number, at, component.name)
                chats += chats_of(options)
                examples = list(put_through(component, runner, examples, options, counts))
        made = list(distinct(examples, step.name))
        usage = {name: sum(chat.used[name] for chat in chats) for name in ("prompt", "completion")}
        flops = sum(2.0 * chat.parameters * chat.used.total() for chat in chats)
        runner.say(
            f"        round {number + 1}: {len(made):,} examples, {usage['completion']:,} tokens drawn"
        )
        return made, Spent(usage, flops, counts=counts)

    return gather


def _apart(prompts: Sequence[Example]) -> list[Example]:
    """The prompts, with ids that differ where one comes several times in a round."""
    seen: Counter[str] = Counter()
    found: list[Example] = []
    for one in prompts:
        seen[one.id] += 1
        again = f"{one.id} ({seen[one.id]})" if seen[one.id] > 1 else one.id
        found.append(replace(one, meta={**one.meta, "id": again}))
    return found
