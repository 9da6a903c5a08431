"""What every task keeps. A check takes what makes the task, and a bench to measure on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from turnsmith.data.batch import pack
from turnsmith.data.render import Renderer
from turnsmith.evaluation.items import needed
from turnsmith.evaluation.suite import Item, Subject, Task
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import LocalEngine
from turnsmith.testing.builders import model, tokenizer
from turnsmith.types import Example

Make = Callable[[], Task]


def subject(*, seed: int = 0) -> Subject:
    """The tiny model, ready to be measured."""
    words = tokenizer()
    whole = model(seed=seed, vocabulary=len(words))
    forest.attach(whole)
    renderer = Renderer(words)
    chat = LocalChat(LocalEngine(whole, stop=renderer.stops), renderer)
    return Subject(f"tiny-{seed}", Scoring(whole), renderer, chat, pack)


class TinyBench:
    """A bench of two tiny models. data: by name. tasks: what makes the tasks whose items others ask for."""

    def __init__(
        self, data: Mapping[str, Sequence[Example]], tasks: Mapping[str, Make] | None = None
    ) -> None:
        self.data = data
        self.tasks = tasks or {}
        self.tuned = subject(seed=1)
        self._start = subject()

    def examples(self, name: str) -> Sequence[Example]:
        return self.data[name]

    def start(self) -> Subject:
        return self._start

    def of_start(self, task: str) -> Sequence[Item]:
        return self.tasks[task]().measure(self._start, self)


def measured_twice_the_items_are_the_same(make: Make, bench: TinyBench) -> None:
    """What is on the shelf stands for what would be measured again; values that a task names as `timed` are
    seconds of this moment, and need only be there again."""
    first, second = (make().measure(bench.tuned, bench) for _ in range(2))
    timed: Sequence[str] = getattr(make(), "timed", ())
    assert [_untimed(item, timed) for item in first] == [_untimed(item, timed) for item in second]


def every_model_is_measured_on_the_same_items(make: Make, bench: TinyBench) -> None:
    """Ids differ from each other, and they and the sizes do not depend on the model: figures are paired."""
    task = make()
    ones, others = task.measure(bench.start(), bench), task.measure(bench.tuned, bench)
    ids = [item.id for item in ones]
    assert ids
    assert len(set(ids)) == len(ids)
    assert [item.id for item in others] == ids
    for metric in task.metrics:
        if metric.size:
            sizes = ([item.values.get(metric.size) for item in items] for items in (ones, others))
            assert next(sizes) == next(sizes), metric.name


def figures_speak_of_finite_values_that_items_have(make: Make, bench: TinyBench) -> None:
    """Every metric has its value, its size and its chance in some item; every value is a number."""
    task = make()
    items = task.measure(bench.tuned, bench)
    for item in items:
        assert all(math.isfinite(value) for value in item.values.values()), item.id
    there = {name for item in items for name in item.values}
    for metric in task.metrics:
        wanted = {*needed(metric), *(["chance"] if metric.chance else [])}
        assert wanted <= there, f"{metric.name}: {wanted - there}"


def items_are_json(make: Make, bench: TinyBench) -> None:
    """They are kept as text, and other tasks may ask for them."""
    for item in make().measure(bench.tuned, bench):
        assert Item(**json.loads(json.dumps(asdict(item)))) == item, item.id


def it_says_what_it_measures(make: Make, bench: TinyBench) -> None:
    """Title and note for the report, and no two figures of a name. Without figures there is text to show."""
    task = make()
    assert task.title
    assert task.note
    names = [metric.name for metric in task.metrics]
    assert len(set(names)) == len(names)
    if not names:
        assert all({"prompt", "text"} <= set(item.shown) for item in task.measure(bench.tuned, bench))


def _untimed(item: Item, timed: Sequence[str]) -> Item:
    values = {name: 0.0 if name in timed else value for name, value in item.values.items()}
    return replace(item, values=values)


TaskCheck = Callable[[Make, TinyBench], None]
TASK: tuple[TaskCheck, ...] = (
    measured_twice_the_items_are_the_same,
    every_model_is_measured_on_the_same_items,
    figures_speak_of_finite_values_that_items_have,
    items_are_json,
    it_says_what_it_measures,
)
