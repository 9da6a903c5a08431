"""What a recipe may say. Everything is checked before anything is loaded; an unknown key is an error."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from turnsmith.data.quarantine import BadRows
from turnsmith.errors import UsageError
from turnsmith.recipes import FOLDER, yaml12
from turnsmith.recipes.checks import check
from turnsmith.recipes.component import Component, Named, component_of
from turnsmith.recipes.paths import assign, unshared
from turnsmith.registry import Registry
from turnsmith.train.options import OVER_BEFORE, Fit
from turnsmith.types import Train as Learns
from turnsmith.types import is_list, is_object

FORGETTING = ("stopping", "divergence", "abilities")  # tasks of the general suite


def _base(value: Any) -> Any:
    return value if isinstance(value, str) else component_of(value)


Base = Annotated[str | Component, BeforeValidator(_base)]


def _seed(value: Any, info: ValidationInfo) -> Any:
    return cast("Mapping[str, int]", info.context)["seed"] if value == "run" else value


class Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, arbitrary_types_allowed=True
    )


class Data(Strict):
    """Read a file, take data made before (`from`), or let the stages make it; run stages; split by a key.

    seed: of the split and of what stages draw. It is not the run's, so that all seeds of a run share the
    data, unless it is `run`: where the draw is what is being tried, each seed has its own. keep: so many
    versions of the data are handed on together, the newest last. bad_rows: whether the first row that
    cannot be used is an error, or all such go to a file `bad-rows.jsonl` beside the data.
    """

    name: str | dict[str, float]
    read: str | None = None
    given: str | None = Field(None, alias="from")
    format: str = "auto"
    bad_rows: BadRows = "stop"
    stages: tuple[Named, ...] = ()
    by: str = "id"
    seed: Annotated[int, BeforeValidator(_seed)] = 0
    keep: int = Field(1, ge=1)

    @field_validator("name")
    @classmethod
    def shares(cls, name: str | dict[str, float]) -> str | dict[str, float]:
        if isinstance(name, dict) and (not name or any(share <= 0 for share in name.values())):
            raise ValueError(f"each split needs a share above 0, not {name}")
        return name

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,) if isinstance(self.name, str) else tuple(self.name)


class Watch(Strict):
    """Measure the model that is being trained with the tasks of `suite`, before the first step, every so many
    steps, and after the last."""

    every: int = Field(ge=1)
    suite: tuple[Named, ...] = Field(min_length=1)


class Collect(Strict):
    """Make what is learnt from while learning: before each round the next `examples` of the step's data are
    put through the stages, in which the step's own name means the model that learns, as it is then. What
    comes out is learnt for `epochs` epochs."""

    stages: tuple[Named, ...] = Field(min_length=1)
    examples: int = Field(ge=1)
    epochs: int = Field(1, ge=1)


class Train(Strict):
    """Fit what `trainable` selects in `start` to `data` under `objective`.

    train_on: what learns where no weight says so: every reply of the assistant, the `last` one, all since the
    last user message (`turn`), what the `user` says, the assistant's `calls` of tools, or `all` tokens.
    others: for each name of another model that the objective speaks of, which model it is. beside: for each
    name of further data that it speaks of, which data they are. view: what the model sees of an example,
    drawn afresh at every sight. collect: what is learnt from is made of the data in rounds, by the model that
    learns.
    """

    name: str
    data: str
    start: str = "base"
    objective: Named = Component("sft", {})
    others: dict[str, str] = {}
    beside: dict[str, str] = {}
    trainable: Named = Component("lora", {})
    view: Named | None = None
    collect: Collect | None = None
    train_on: Learns = "assistant"
    validate_on: str | None = None
    watch: Watch | None = None
    fit: Fit

    @field_validator("fit", mode="before")
    @classmethod
    def spelled_anew(cls, fit: Any) -> Any:
        over = fit.get("over") if is_object(fit) else None
        if over in OVER_BEFORE:
            raise ValueError(f"over: what was {over!r} is now called {OVER_BEFORE[over]!r}")
        return fit


class Merge(Strict):
    """Make a model of the weights of others. method: how; base: what the models were tuned from."""

    name: str
    models: tuple[str, ...] = Field(min_length=1)
    base: str = "base"
    method: Named
    seed: int = 0


class Combine(Strict):
    """Let models write one reply together. decoder: how their logits become one; members: a model for each
    name that it has for them; draft: the member that guesses ahead, which changes the time and no reply."""

    name: str
    decoder: Named
    members: dict[str, str]
    draft: str | None = None


class Evaluate(Strict):
    """Measure `model` and `against` with the tasks of `suite`, and compare them item by item; where `against`
    is null, `model` alone.

    max_failed: share of a task's items that a model may fail to answer before it is an error.
    """

    model: str
    against: str | None = "base"
    suite: tuple[Named, ...]
    max_failed: float = Field(default=0.05, ge=0, le=1)


class Repeat(Strict):
    """The same steps several times; a name made again becomes a new version of itself."""

    times: int = Field(ge=1)
    steps: tuple[Step, ...]


class Step(Strict):
    """One step: exactly one of these verbs."""

    data: Data | None = None
    train: Train | None = None
    merge: Merge | None = None
    combine: Combine | None = None
    evaluate: Evaluate | None = None
    repeat: Repeat | None = None

    @model_validator(mode="after")
    def one_verb(self) -> Step:
        verbs = [verb for verb in Step.model_fields if getattr(self, verb) is not None]
        if len(verbs) != 1:
            raise ValueError(f"a step has exactly one verb, not {' and '.join(verbs) or 'none'}")
        return self


Direction = Literal["lower", "higher", "within", "not lower", "not higher"]


class Statement(Strict):
    """A claim: metric `quantity` of task `task`, of one model against another, is `lower` or `higher` by more
    than `by`, is `not lower` or `not higher` by more than `by`, or is `within` it either way.

    on: the data that the task measures on, where it measures on several. of, against: a model, or two, which
    mean the change from the second to the first. against: null is 0, for figures that are differences
    themselves.
    """

    task: str
    on: str | None = None
    quantity: str
    of: str | tuple[str, str]
    against: str | tuple[str, str] | None = "base"
    direction: Direction
    by: float = Field(0.0, ge=0)

    @property
    def models(self) -> tuple[str, ...]:
        sides = (self.of, self.against or ())
        return tuple(name for side in sides for name in ((side,) if isinstance(side, str) else side))


class Recipe(Strict):
    """A list of steps over names, with what it claims.

    base: a model, or a network to be made. forgetting: whether the newest model is measured on what it may
    have forgotten even if no step says so. card: the paper's number in the list of methods. minutes: that it
    takes on two cores, with all seeds and the control. control: changes by path that take the method out, for
    a run that must not show the claim. replicates: of how many seeds, from `seed` on, `turnsmith claims`
    pools the figures.
    """

    title: str
    source: str = ""
    card: int | None = None
    base: Base
    seed: int = 0
    minutes: float | None = None
    forgetting: bool = True
    steps: tuple[Step, ...]
    claim: tuple[Statement, ...] = ()
    control: dict[str, Any] = {}
    replicates: int = Field(1, ge=1)
    tiny: dict[str, Any] = {}
    each: dict[str, list[Any]] = {}
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Arm:
    """One member of a recipe's grid. name: empty where there is no grid."""

    name: str
    recipe: Recipe


# ---------------------------------------------------------------------------------- from text to arms


def find(reference: str) -> Path:
    """The file of a recipe: a path, or the name of one that comes with Turnsmith."""
    path = Path(reference)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"no recipe at {reference}: there is no such file")
        return path
    shipped = {file.stem: file for file in FOLDER.glob("*.yaml")}
    if reference not in shipped:
        near = difflib.get_close_matches(reference, shipped, n=2)
        meant = f"; did you mean {' or '.join(near)}?" if near else f"; there is {', '.join(sorted(shipped))}"
        raise UsageError(f"no recipe is called {reference!r} and there is no such file{meant}")
    return shipped[reference]


def parse(text: str, where: str) -> dict[str, Any]:
    """YAML to a plain mapping."""
    try:
        plain = yaml12.load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is no YAML: {error}") from None
    if not is_object(plain):
        raise UsageError(f"{where} must be a mapping with title, base and steps")
    return plain


def arms(plain: Mapping[str, Any], where: str, registry: Registry, *, tiny: bool = False) -> list[Arm]:
    """The recipe's grid (`each` and `seeds` expanded), each member checked as a whole."""
    mine: dict[str, Any] = unshared(plain)
    mine["tiny"], mine["control"] = _paths(plain, "tiny", where), _paths(plain, "control", where)
    if tiny:
        for path, value in mine["tiny"].items():
            assign(mine, path, value)
    grid = _grid(mine, where)
    found: list[Arm] = []
    for values in itertools.product(*grid.values()):
        one = unshared(mine)
        one.pop("each", None)
        one.pop("seeds", None)
        for path, value in zip(grid, values, strict=True):
            assign(one, path, value)
        name = ",".join(f"{path.split('.')[-1]}={value}" for path, value in zip(grid, values, strict=True))
        recipe = _checked(one, where, registry)
        found.append(Arm(name, recipe if tiny else _with_forgetting(recipe)))
    return found


def _with_forgetting(recipe: Recipe) -> Recipe:
    """The recipe, with a last step for those tasks of FORGETTING that its newest model is not measured on."""
    steps = list(flat(recipe.steps))
    trained = [step.train.name for step in steps if step.train is not None]
    if not recipe.forgetting or not trained:
        return recipe
    suites = [step.evaluate.suite for step in steps if step.evaluate and step.evaluate.model == trained[-1]]
    measured = {task.name for suite in suites for task in suite}
    missing = tuple(Component(name, {}) for name in FORGETTING if name not in measured)
    last = (Step(evaluate=Evaluate(model=trained[-1], suite=missing)),) if missing else ()
    return recipe.model_copy(update={"steps": (*recipe.steps, *last)})


def _paths(plain: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    found = plain.get(key)
    if not found:
        return {}
    if not is_object(found):
        raise UsageError(f"{where}: {key}: expected a mapping of paths to values, not {found!r}")
    return {str(path): value for path, value in found.items()}


def _grid(plain: Mapping[str, Any], where: str) -> dict[str, list[Any]]:
    """The values of each path, the seed's last."""
    each, seeds = _paths(plain, "each", where), plain.get("seeds")
    lists = {f"each.{path}": values for path, values in each.items()} | ({"seeds": seeds} if seeds else {})
    for place, values in lists.items():
        if not is_list(values) or not values:
            raise UsageError(f"{where}: {place}: expected a list of values, not {values!r}")
    return each | ({"seed": seeds} if seeds else {})


def _checked(plain: Mapping[str, Any], where: str, registry: Registry) -> Recipe:
    try:
        recipe = Recipe.model_validate(plain, context={"seed": plain.get("seed", 0)})
    except ValidationError as error:
        raise UsageError(f"{where}: {_explain(error)}") from None
    check(recipe, list(flat(recipe.steps)), registry, where)
    return recipe


def flat(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Steps in order, those of a `repeat` once."""
    for step in steps:
        if step.repeat is not None:
            yield from flat(step.repeat.steps)
        else:
            yield step


def _explain(error: ValidationError) -> str:
    """The first thing that is wrong, with its place and what may have been meant."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _keys_at(first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=2)
        meant = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
        return f"unknown key {place}; {meant}"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    from dataclasses import fields

    models: dict[str, type[Strict]] = {
        "data": Data,
        "train": Train,
        "watch": Watch,
        "collect": Collect,
        "merge": Merge,
        "combine": Combine,
        "evaluate": Evaluate,
        "repeat": Repeat,
        "claim": Statement,
        "steps": Step,
    }
    words = [str(part) for part in loc if not isinstance(part, int)]
    if words and words[-1] == "fit":
        return [field.name for field in fields(Fit)]
    model = models.get(words[-1], Recipe) if words else Recipe
    return [field.alias or name for name, field in model.model_fields.items()]


Repeat.model_rebuild()
