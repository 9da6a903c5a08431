"""What `compare` knows a method by: its name, its steps, and what it needs that the data may not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from turnsmith.errors import UsageError
from turnsmith.recipes import schema, tuning
from turnsmith.registry import Registry, suggest

PAIRS = ("chosen", "rejected")
MODEL = "tuned"  # what a method's result is called, unless a recipe says otherwise
TEXT = "text"  # the part that most objectives learn from
TRAIN, HELD = "train", "held"  # the two sides of the data as they were read
ASKED = "asked"  # what a recipe calls the held-out replies behind the words that its model expects
# Whose replies an objective over pairs sets against people's: SPIN its own, others those of the start model.
REJECTED_BY = {"spin": MODEL}
RATED = 8.0  # the mean rating from which on a chat's replies count as good
SAMPLED = 0.25  # the share of the budget that goes into replies of a model


class Buyer(Protocol):
    """Carries out steps within a budget, and pays for them."""

    def data(self, name: str, **keys: Any) -> Mapping[str, Any]: ...
    def sampled(self, name: str, *, share: float, stages: Sequence[Any], by: Any, **keys: Any) -> None: ...
    def train(self, name: str, *, share: float, **keys: Any) -> Mapping[str, Any]: ...
    def merge(self, name: str, **keys: Any) -> Mapping[str, Any]: ...
    def size(self, name: str) -> int: ...


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of the data before anything was made of them."""

    parts: frozenset[str]
    rated: bool
    people: bool
    examples: int

    @property
    def texts(self) -> tuple[str, str]:
        """Names of the data to learn from and of those held out, as texts."""
        return (TRAIN, HELD) if TEXT in self.parts else ("text", "heldout")


@dataclass(frozen=True, slots=True)
class Method:
    """One of what is compared. steps: carries it out and gives the name of the model that came of it.

    said: what was derived for it. beside: the method that it is the baseline of, if it is one. asked: the
    data that its own model is measured on in place of the held-out ones: the same replies, behind its words.
    """

    name: str
    steps: Callable[[Buyer], str]
    said: tuple[str, ...] = ()
    beside: str | None = None
    asked: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What all methods share. parameters: of the model. fit: over what is chosen by size."""

    parameters: int
    look: Look
    registry: Registry
    fit: Mapping[str, Any] = field(default_factory=dict[str, Any])


def methods(named: Sequence[str], registry: Registry, settings: Settings) -> list[Method]:
    """Those that were named, in their order, each with the baselines that it has to stand beside.

    A name is an objective, a trainable, both joined by `+`, or a recipe. Raises UsageError for others, and
    for what the data cannot feed.
    """
    found: list[Method] = []
    for name in named:
        found += _method(name, registry, settings)
    double = [one.name for number, one in enumerate(found) if one.name in {x.name for x in found[:number]}]
    if double:
        raise UsageError(f"{double[0]!r} is named twice: a method is compared with others")
    return found


def _method(name: str, registry: Registry, settings: Settings) -> list[Method]:
    objectives, trainables = (
        {entry.name for entry in registry.entries(kind)} for kind in ("objective", "trainable")
    )
    words = name.split("+")
    own = [word for word in words if word in objectives], [word for word in words if word in trainables]
    if len(words) == sum(map(len, own)) and max(map(len, own)) <= 1:
        objective, trainable = (*own[0], "sft")[0], (*own[1], "lora")[0]
        return _composed(name, objective, trainable, registry, settings)
    try:
        file = schema.find(name)
    except UsageError:
        meant = suggest(words[-1], [*objectives, *trainables])
        raise UsageError(
            f"{name!r} is no objective, trainable, both joined by '+', or recipe{meant}"
        ) from None
    return [of_recipe(file, name)]


def _composed(
    name: str, objective: str, trainable: str, registry: Registry, settings: Settings
) -> list[Method]:
    needs = registry.entry("objective", objective).parts
    if missing := set(needs) - settings.look.parts - {TEXT, *PAIRS}:
        there = ", ".join(sorted(settings.look.parts))
        raise UsageError(
            f"{name}: the objective {objective!r} needs {', '.join(sorted(missing))}, and the data have "
            f"{there}: leave it out, or prepare the data with a recipe"
        )
    judged = set(needs) == set(PAIRS) or tuning.over_labels(objective, registry)
    make = _over_pairs if judged else _over_text
    return make(name, objective, trainable, settings)


# ------------------------------------------------------------------------------- what they are made of


def _over_text(name: str, objective: str, trainable: str, settings: Settings) -> list[Method]:
    keys, text = _training(objective, trainable, settings), settings.look.texts[0]

    def steps(buy: Buyer) -> str:
        buy.train(MODEL, data=text, share=1.0, **keys)
        return MODEL

    said = () if TEXT in settings.look.parts else ("learns from the chosen answers",)
    return [Method(name, steps, said)]


def _over_pairs(name: str, objective: str, trainable: str, settings: Settings) -> list[Method]:
    """Half of the budget on the likelihood of people's replies, half on pairs, or on their answers one by
    one."""
    first, then = (_training(one, trainable, settings) for one in ("sft", objective))
    apart = tuning.over_labels(objective, settings.registry)
    half = "half of the budget is supervised tuning first"
    half += ", answers of a pair are learnt from one by one" if apart else ""
    by, text = REJECTED_BY.get(objective, "base"), settings.look.texts[0]

    def tuned(buy: Buyer, prepare: Callable[[Buyer], None]) -> str:
        buy.train(MODEL, data=text, share=0.5, **first)
        prepare(buy)
        if apart:
            buy.data("answers", given="pairs", stages=["verdicts"])
        learnt = "answers" if apart else "pairs"
        buy.train(MODEL, data=learnt, start=MODEL, train_on="last", share=1.0, **then)
        return MODEL

    def given(buy: Buyer) -> None:
        buy.data("pairs", given=TRAIN)

    def sampled(*stages: Any) -> Callable[[Buyer], None]:
        reply = {"respond": {"by": by, "max_new": 64}}
        return lambda buy: buy.sampled("pairs", given=text, share=SAMPLED, stages=stages, by=reply)

    def longest(buy: Buyer) -> None:
        buy.data("rated", given=text, stages=[{"rated": {"least": RATED}}])
        sampled({"longest": {"count": buy.size("rated")}})(buy)

    if set(PAIRS) <= settings.look.parts and objective not in REJECTED_BY:
        return [Method(name, lambda buy: tuned(buy, given), (half,))]
    own = "its own replies" if by == MODEL else "the start model's own replies"
    if not settings.look.rated or objective in REJECTED_BY:
        said = (half, f"pairs are people's replies against {own} to the same prefix")
        return [Method(name, lambda buy: tuned(buy, sampled()), said)]
    good = (
        f"pairs are people's replies in chats rated {RATED:g} or more (5/5/5 counts as unrated) against {own}"
    )
    other = f"{name} by length"
    alone = f"as {name}, from as many chats, chosen by length instead of rating"
    return [
        Method(name, lambda buy: tuned(buy, sampled({"rated": {"least": RATED}})), (half, good)),
        Method(other, lambda buy: tuned(buy, longest), (alone,), beside=name),
    ]


def _training(objective: str, trainable: str, settings: Settings) -> dict[str, Any]:
    """Keys of a `train` step, all but its steps: what `tune` chooses by size, and what was asked for."""
    pairs = tuning.over_pairs(objective, settings.registry)
    choices = tuning.choose(
        parameters=settings.parameters,
        examples=settings.look.examples,
        objective=objective,
        trainable=trainable,
        registry=settings.registry,
    )
    chosen = {choice.name: choice.value for choice in choices}
    judged = pairs or tuning.over_labels(objective, settings.registry)
    over = "oldest" if judged else "right"  # answers that are judged must not be lost
    fit = {"lr": chosen["fit.lr"], "batch": 4, "length": 512, "over": over}
    if live := chosen.get("fit.reference"):
        fit["reference"] = live
    fit |= settings.fit
    rank = chosen.get("rank")
    options = {"rank": rank, "alpha": 2.0 * float(str(rank))} if rank else {}
    return {"objective": objective, "trainable": {trainable: options}, "fit": fit}


# ------------------------------------------------------------------------------------------- recipes


def of_recipe(file: Path, name: str) -> Method:
    """A recipe as a method: its own steps, on the data and the model of the comparison.

    What it reads is replaced by the comparison's data, what it evaluates is left out, and its training steps
    share the budget as their own steps are shared.
    """
    plain = schema.parse(file.read_text("utf-8"), file.name)
    steps = list(_unrolled(plain.get("steps") or ()))
    weights = [_weight(keys) for verb, keys in steps if verb == "train"]
    if not weights:
        raise UsageError(f"{file.name} trains nothing: there is nothing to compare")

    def carried_out(buy: Buyer) -> str:
        left, made = list(weights), MODEL
        for verb, keys in steps:
            if verb == "data":
                _given(buy, dict(keys))
            elif verb == "train":
                fit = {key: value for key, value in keys.get("fit", {}).items() if key not in _LENGTHS}
                rest = {key: value for key, value in keys.items() if key not in ("fit", "name")}
                made = str(keys["name"])
                buy.train(made, share=left[0] / sum(left), fit=fit, **rest)
                left.pop(0)
            elif verb == "merge":
                made = str(keys["name"])
                buy.merge(made, **{key: value for key, value in keys.items() if key != "name"})
            elif verb == "combine":
                raise UsageError(
                    f"{file.name} combines models while they decode: there is no one model to compare"
                )
        return made

    said = [f"{file.name}: its own data and measurements are replaced"]
    asked = ASKED if _held_out(ASKED, steps) else None
    if asked:
        said.append(f"its model is measured on the held-out replies as its {ASKED!r} has them")
    return Method(name, carried_out, tuple(said), asked=asked)


_LENGTHS = ("steps", "epochs", "evaluate")


def _weight(keys: Mapping[str, Any]) -> float:
    fit: Mapping[str, Any] = keys.get("fit") or {}
    return float(fit.get("steps") or fit.get("epochs") or 1)


def _unrolled(steps: Sequence[Mapping[str, Any]]) -> Any:
    for step in steps:
        for verb, keys in step.items():
            if verb == "repeat":
                for _ in range(int(keys["times"])):
                    yield from _unrolled(keys["steps"])
            else:
                yield verb, keys


def _given(buy: Buyer, keys: dict[str, Any]) -> None:
    """A recipe's `data` step; what it would have read is what the comparison reads."""
    name, source = keys.pop("name"), keys.pop("from", None)
    if "read" not in keys:
        buy.data(name, given=source, **keys)
        return
    for one, mine in _sides(name).items():
        if one != mine:
            buy.data(one, given=f"{mine}@1")


def _sides(name: str | Mapping[str, float]) -> dict[str, str]:
    """Which side of the comparison's data each name of a reading step stands for."""
    shares: Mapping[str, float] = {name: 1.0} if isinstance(name, str) else name
    largest = max(shares, key=lambda one: shares[one])
    return {one: TRAIN if one == largest else HELD for one in shares}


def _held_out(name: str, steps: Sequence[tuple[str, Mapping[str, Any]]]) -> bool:
    """Whether a recipe makes data of this name out of its held-out side."""
    side: dict[str, str] = {}
    made = False
    for verb, keys in steps:
        if verb != "data":
            continue
        if "read" in keys:
            side |= _sides(keys["name"])
        elif isinstance(keys["name"], str) and keys.get("from") in side:
            side[keys["name"]] = side[keys["from"]]
            made = made or (keys["name"] == name and side[name] == HELD)
    return made
