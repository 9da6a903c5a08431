"""A recipe carried out step by step from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from turnsmith.errors import UsageError
from turnsmith.recipes import components, schema
from turnsmith.recipes.component import bare
from turnsmith.recipes.run import Runner, Say
from turnsmith.registry import suggest
from turnsmith.types import Example


class Steps:
    """The verbs of a recipe as functions: each makes the artefact that the same step of a recipe makes, or
    finds it.

    Every verb takes the keys of its step, `from` being spelled `given`, and gives what run.json says of the
    step. Leaving the block measures what was forgotten, where no step has, and writes run.json and report;
    without a block, `finish` does.

    >>> import turnsmith
    >>> with turnsmith.Steps("smollm2-135m-instruct", name="mine") as go:                 # doctest: +SKIP
    ...     go.data({"train": 0.9, "heldout": 0.1}, read="chats.jsonl")
    ...     go.train("tuned", data="train", trainable={"lora": {"rank": 8}}, fit={"steps": 50})
    ...     go.evaluate("tuned", suite=[{"heldout": {"on": "heldout"}}])
    """

    def __init__(
        self,
        base: str | Path | Mapping[str, Any],
        *,
        name: str = "steps",
        title: str = "",
        source: str = "",
        seed: int = 0,
        forgetting: bool = True,
        use: Sequence[Path | str] = (),
        to: Path | str | None = None,
        near: Path | str | None = None,
        say: Say | None = None,
    ) -> None:
        """base: a directory, a shipped name, a hub id, or a network as `{name: options}`. forgetting:
        whether the newest model is measured on what it may have forgotten. near: a folder where data files
        are looked for too. use, to and say as of `run`."""
        self._plain: dict[str, Any] = {
            "title": title or name,
            "source": source,
            "base": dict(base) if isinstance(base, Mapping) else str(base),
            "seed": seed,
            "forgetting": forgetting,
            "steps": [],
            "claim": [],
        }
        self._known = components(use)
        self._name = name
        self.runner = Runner(
            self._arm(self._plain),
            name,
            Path(to) if to else Path("runs") / name,
            self._known,
            f"turnsmith.Steps({base if isinstance(base, Mapping) else str(base)!r}, name={name!r})",
            say or (lambda text: None),
            quiet=say is None,
            near=Path(near) if near else None,
        )
        self.runner.models["base"] = [self.runner.base()]

    def data(self, name: str | Mapping[str, float], **keys: Any) -> dict[str, Any]:
        """Read a file or take data made before, run stages, split by shares."""
        return self._do("data", name=name, **keys)

    def train(self, name: str, **keys: Any) -> dict[str, Any]:
        """Fit what `trainable` selects in `start` to `data` under `objective`."""
        return self._do("train", name=name, **keys)

    def trial(self, name: str, **keys: Any) -> dict[str, Any]:
        """What the optimiser steps of such a `train` take; no model comes of it and nothing is recorded."""
        return self.runner.trial(self.planned(name, **keys))

    def planned(self, name: str, **keys: Any) -> schema.Train:
        """A `train` step, checked and not carried out."""
        done: list[Any] = self._plain["steps"]
        arm = self._arm({**self._plain, "steps": [*done, {"train": {"name": name, **keys}}]})
        step = arm.recipe.steps[len(done)].train
        assert step is not None
        return step

    def merge(self, name: str, **keys: Any) -> dict[str, Any]:
        """Make a model of the weights of `models`, which were tuned from `base`, by `method`."""
        return self._do("merge", name=name, **keys)

    def combine(self, name: str, **keys: Any) -> dict[str, Any]:
        """Let `members`, models by name, write one reply together by `decoder`."""
        return self._do("combine", name=name, **keys)

    def evaluate(self, model: str, **keys: Any) -> dict[str, Any]:
        """Measure `model` and `against` with the tasks of `suite`, and compare them item by item."""
        return self._do("evaluate", model=model, **keys)

    def claim(
        self,
        task: str,
        *,
        quantity: str,
        of: str | Sequence[str],
        direction: schema.Direction,
        against: str | Sequence[str] | None = "base",
        on: str | None = None,
        by: float = 0.0,
    ) -> None:
        """State what should have come out of an `evaluate` before; it is judged in the report. The keys are
        those of a recipe's `claim`."""
        stated = {"task": task, "on": on, "quantity": quantity, "of": of, "against": against}
        claims = [*self._plain["claim"], {**stated, "direction": direction, "by": by}]
        before = self._take({**self._plain, "claim": claims})
        try:
            self.runner.check_claim()
        except UsageError:
            self._take(before)
            raise

    def examples(self, name: str) -> list[Example]:
        """The examples of a data name, its newest version unless `name@N` says otherwise."""
        known = list(self.runner.data)
        if bare(name) not in known:
            raise UsageError(f"no data is called {name!r}{suggest(name, known)}")
        return list(self.runner.examples(name))

    def model(self, name: str) -> str:
        """What to load a model of this run by, e.g. with `turnsmith.chat`."""
        return self.runner.model(name).reference

    def finish(self) -> dict[str, Any]:
        """Measure what was forgotten, judge, write run.json and the report. Gives what run.json holds."""
        left = self.runner.recipe.steps[len(self._plain["steps"]) :]
        self.runner.open()
        return self.runner.finish(left)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        elif self.runner.opened:
            self.runner.leave("stopped" if issubclass(kind, KeyboardInterrupt) else "failed")

    def _do(self, verb: str, **keys: Any) -> dict[str, Any]:
        """Check the recipe with this step behind the others, and carry the step out."""
        step = {verb: {key: str(value) if isinstance(value, Path) else value for key, value in keys.items()}}
        done: list[Any] = self._plain["steps"]
        before = self._take({**self._plain, "steps": [*done, step]})
        try:
            self.runner.step(self.runner.recipe.steps[len(done)])
        except BaseException:
            self._take(before)  # the same call may be tried again
            self.runner.release()
            raise
        return self.runner.steps[-1]

    def _take(self, plain: dict[str, Any]) -> dict[str, Any]:
        """Let this be the recipe, if it is one; gives the one before."""
        self.runner.recipe = self._arm(plain).recipe
        before, self._plain = self._plain, plain
        return before

    def _arm(self, plain: Mapping[str, Any]) -> schema.Arm:
        return schema.arms(plain, self._name, self._known)[0]
