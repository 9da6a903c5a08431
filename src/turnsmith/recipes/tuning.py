"""What `tune` chooses for a user who named only a model and data, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnsmith.errors import UsageError
from turnsmith.recipes.schema import FORGETTING

SMALL = 500_000_000  # parameters; below it the higher learning rate of a size class is taken
LARGE = 7_000_000_000
BATCH = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting, and the reason in plain words."""

    name: str
    value: object
    reason: str


def choose(
    *, parameters: int, examples: int, objective: str, trainable: str, rank: int | None = None
) -> list[Choice]:
    """Learning rate, rank, steps and evaluation for a model of `parameters` and `examples` to learn from.

    The rates are those that published recipes of each size use (LoRA some ten times those of full tuning, a
    preference objective a tenth of a likelihood); they are a place to start, not an optimum.
    """
    if examples < 1:
        raise UsageError("nothing to learn from")
    size = "small" if parameters < SMALL else "large" if parameters > LARGE else "middle"
    adapters = trainable in ("lora", "biases")
    rates = (
        {"small": 5e-4, "middle": 2e-4, "large": 1e-4}
        if adapters
        else {"small": 5e-5, "middle": 2e-5, "large": 1e-5}
    )
    lr = rates[size]
    why = f"{trainable} on a {size} model ({parameters / 1e6:,.0f} M parameters)"
    if objective == "dpo":
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
    ]
    if trainable == "lora":
        if rank is not None:
            found.append(Choice("rank", rank, "the adapter to go on with has it"))
        else:
            found.append(
                Choice("rank", 16 if examples < 5_000 else 32, f"{examples:,} examples do not need more")
            )
    return found


def recipe(
    base: str,
    read: str,
    *,
    name: str,
    objective: str,
    trainable: str,
    choices: list[Choice],
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    """A recipe as plain YAML data. overrides: what the user set for `fit`, over the choices."""
    chosen = {choice.name: choice.value for choice in choices}
    fit = {key.removeprefix("fit."): value for key, value in chosen.items() if key.startswith("fit.")} | dict(
        overrides
    )
    own: list[Any] = ["heldout", "replies"] if objective == "sft" else []  # pairs have no part `text`
    suite = [*({task: {"on": "heldout"}} for task in own), *FORGETTING]
    options = {"rank": chosen["rank"], "alpha": 2.0 * float(str(chosen["rank"]))} if "rank" in chosen else {}
    return {
        "title": f"{base} tuned on {read}",
        "base": base,
        "steps": [
            {"data": {"name": {"train": 0.9, "heldout": 0.1}, "read": read, "by": "id"}},
            {
                "train": {
                    "name": name,
                    "data": "train",
                    "objective": objective,
                    "trainable": {trainable: options},
                    "validate_on": "heldout",
                    "fit": fit,
                }
            },
            {"evaluate": {"model": name, "suite": suite}},
        ],
    }
