"""What `tune` chooses for a user who named only a model and data, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from turnsmith.data.quarantine import BadRows
from turnsmith.errors import UsageError
from turnsmith.recipes import components, references, schema, wiring
from turnsmith.recipes.schema import FORGETTING
from turnsmith.registry import Registry

SMALL = 500_000_000  # parameters; below it the higher learning rate of a size class is taken
LARGE = 7_000_000_000
BATCH = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting, and the reason in plain words."""

    name: str
    value: object
    reason: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a tuning will do. name: of the run; choices: the settings that the user left open."""

    name: str
    recipe: dict[str, Any]
    choices: list[Choice]


def plan(
    model: str | Path,
    data: str | Path,
    *,
    objective: str | None = None,
    trainable: str = "lora",
    steps: int | None = None,
    lr: float | None = None,
    length: int | None = None,
    name: str = "tuned",
    bad_rows: BadRows = "stop",
    settings: Mapping[str, Any] | None = None,
    use: Sequence[Path | str] = (),
) -> Plan:
    """Look at model and data, and choose what was not said. Arguments as of `turnsmith.tune`."""
    from turnsmith.models import load

    known = components(use)
    options = (("steps", steps), ("lr", lr), ("length", length))
    given = {option: value for option, value in options if value is not None}
    parts, count = _look(str(data), known, bad_rows)
    chosen = objective or ("dpo" if "chosen" in parts else "sft")
    choices = choose(
        parameters=load.parameters(str(model)),
        examples=max(1, round(0.9 * count)),
        objective=chosen,
        trainable=trainable,
        registry=known,
        rank=_rank(Path(model)),
    )
    read = references.absolute(data)
    plain = recipe(
        str(model),
        read,
        name=name,
        objective=chosen,
        trainable=trainable,
        choices=choices,
        overrides=given,
        registry=known,
        paired="chosen" in parts,
    )
    if bad_rows != "stop":
        plain["steps"][0]["data"]["bad_rows"] = bad_rows
    for path, value in (settings or {}).items():
        schema.assign(plain, path, value)
    schema.arms(plain, "tune", known)
    left = [choice for choice in choices if choice.name.removeprefix("fit.") not in given]
    return Plan(f"{name}-on-{Path(data).stem}", plain, left)


def choose(
    *,
    parameters: int,
    examples: int,
    objective: str,
    trainable: str,
    registry: Registry,
    rank: int | None = None,
) -> list[Choice]:
    """Learning rate, rank, steps and evaluation for a model of `parameters` and `examples` to learn from.
    The rates are those that published recipes of each size use (LoRA some ten times those of full tuning, a
    preference objective a tenth of a likelihood); they are a place to start, not an optimum.
    """
    if examples < 1:
        raise UsageError("nothing to learn from")
    size = "small" if parameters < SMALL else "large" if parameters > LARGE else "middle"
    few = wiring.adds(trainable, registry) or trainable == "biases"  # as few numbers as adapters have
    rates = (
        {"small": 5e-4, "middle": 2e-4, "large": 1e-4}
        if few
        else {"small": 5e-5, "middle": 2e-5, "large": 1e-5}
    )
    lr = rates[size]
    why = f"{trainable} on a {size} model ({parameters / 1e6:,.0f} M parameters)"
    if over_pairs(objective, registry) or over_labels(objective, registry):
        lr, why = lr / 10, f"{why}, a tenth of it for a preference objective"
    epochs = 3 if examples < 500 else 2 if examples < 5_000 else 1
    steps = max(10, round(epochs * examples / BATCH))
    found = [
        Choice("fit.lr", lr, why),
        Choice(
            "fit.steps",
            steps,
            f"{epochs} epoch{'s' * (epochs > 1)} of {examples:,} examples, {BATCH} per step",
        ),
        Choice("fit.batch", BATCH, "small enough for a laptop, large enough for a steady gradient"),
        Choice(
            "fit.evaluate",
            max(5, steps // 10),
            "ten times over the run on held-out data; the best state is kept",
        ),
        Choice("fit.over", "oldest", "too long conversations lose their oldest turns, and are counted"),
    ]
    traits = registry.entry("objective", objective).traits
    if traits.get("looks") and traits.get("reference"):
        found.append(Choice("fit.reference", "live", f"{objective} asks the start model before each step"))
    if trainable == "lora":
        if rank is not None:
            found.append(Choice("rank", rank, "the adapter to go on with has it"))
        else:
            found.append(
                Choice("rank", 16 if examples < 5_000 else 32, f"{examples:,} examples do not need more")
            )
    return found


def over_pairs(objective: str, registry: Registry) -> bool:
    """Whether the objective compares two answers to the same question."""
    return set(registry.entry("objective", objective).parts) == {"chosen", "rejected"}


def over_labels(objective: str, registry: Registry) -> bool:
    """Whether the objective learns from single answers of which it is known if they are wanted."""
    return "label" in registry.entry("objective", objective).names("values")


def recipe(
    base: str,
    read: str,
    *,
    name: str,
    objective: str,
    trainable: str,
    choices: list[Choice],
    overrides: Mapping[str, Any],
    registry: Registry,
    paired: bool = False,
) -> dict[str, Any]:
    """A recipe as plain YAML data. overrides: what the user set for `fit`, over the choices. paired: the data
    are pairs, whose answers an objective over single ones learns from one by one."""
    chosen = {choice.name: choice.value for choice in choices}
    fit = {key.removeprefix("fit."): value for key, value in chosen.items() if key.startswith("fit.")} | dict(
        overrides
    )
    apart = paired and over_labels(objective, registry)
    texts = set(registry.entry("objective", objective).parts) <= {"text"} and not apart
    pairs = over_pairs(objective, registry) or apart
    own: list[Any] = ["heldout", "replies"] if texts else ["margins"] if pairs else []
    answers = {"train": "answers", "heldout": "heldout_answers"} if apart else {}
    suite = [*({task: {"on": "heldout"}} for task in own), *FORGETTING]
    options = {"rank": chosen["rank"], "alpha": 2.0 * float(str(chosen["rank"]))} if "rank" in chosen else {}
    return {
        "title": f"{base} tuned on {read}",
        "base": base,
        "steps": [
            {"data": {"name": {"train": 0.9, "heldout": 0.1}, "read": read, "by": "id"}},
            *({"data": {"name": to, "from": one, "stages": ["verdicts"]}} for one, to in answers.items()),
            {
                "train": {
                    "name": name,
                    "data": answers.get("train", "train"),
                    "objective": objective,
                    "trainable": {trainable: options},
                    "validate_on": answers.get("heldout", "heldout"),
                    "fit": fit,
                }
            },
            {"evaluate": {"model": name, "suite": suite}},
        ],
    }


def _look(data: str, known: Registry, bad_rows: BadRows) -> tuple[set[str], int]:
    """The parts that the examples have, and how many there are. Everything is read, so that bad rows show
    now."""
    from turnsmith.data import formats, quarantine, read

    with TemporaryDirectory() as place:  # the data step will read again and keep its own quarantine
        bad = quarantine.Quarantine(Path(place) / quarantine.FILE) if bad_rows == "quarantine" else None
        _, examples = formats.stream(read.locate(data), "auto", known, Counter(), bad)
        first = next(examples, None)
        count = sum(1 for _ in examples) + 1
    if first is None:
        raise UsageError(f"{data}: not one usable example")
    return set(first.parts), count


def _rank(model: Path) -> int | None:
    """The rank of the adapter that `model` is, if it is one."""
    config = model / "adapter_config.json"
    if not config.is_file():
        return None
    rank = json.loads(config.read_text("utf-8")).get("r")
    return int(rank) if rank else None
