"""Several methods on one set of data: the same budget, the same order, the same measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from turnsmith import wheels
from turnsmith.errors import TurnsmithError, UsageError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.models import cost, load
from turnsmith.recipes import advice, budget, components, keeping, references
from turnsmith.recipes.advice import Figures
from turnsmith.recipes.budget import Budget, Rate
from turnsmith.recipes.looking import look
from turnsmith.recipes.methods import HELD, TEXT, TRAIN, Look, Method, Settings, methods
from turnsmith.recipes.purse import Purse
from turnsmith.recipes.run import Say
from turnsmith.recipes.schema import FORGETTING
from turnsmith.recipes.spread import spread
from turnsmith.recipes.steps import Steps
from turnsmith.recipes.summary import machine, provenance
from turnsmith.recipes.varying import by_the_clock
from turnsmith.recipes.verdict import items
from turnsmith.shelf import Shelf, write_text
from turnsmith.types import Conversation, Example, is_object

RUNGS = (0.25, 0.5, 1.0)  # shares of the budget at which halving drops the worse half
SHARE = {"id": 0.1}  # of what is held out, by the key; where each key has many examples, more
MOST = 0.2
ASKED = {"turns": {"least": 2}}  # one message alone has no reply to learn


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run of one method needs to know; it goes to other processes as it is.

    suite: the tasks, as recipes name them. rates: what training costs, where an earlier seed has shown it.
    """

    method: str
    named: tuple[str, ...]
    data: str
    model: str
    by: str
    budget: Budget
    seed: int
    look: Look
    suite: tuple[Any, ...]
    fit: Mapping[str, Any]
    use: tuple[str, ...]
    to: str
    rates: tuple[Rate, ...] = ()


def compare(
    named: Sequence[str],
    *,
    data: str | Path,
    model: str | Path = "smollm2-135m-instruct",
    limit: str = "10m",
    seeds: int = 1,
    halving: bool = False,
    by: str | None = None,
    suite: Sequence[Any] = (),
    fit: Mapping[str, Any] | None = None,
    jobs: int = 1,
    ray: bool = False,
    use: Sequence[Path | str] = (),
    to: Path | str | None = None,
    command: str | None = None,
    say: Say | None = None,
) -> dict[str, Any]:
    """Carry out each method within the budget, measure all alike, and say what follows from the figures.

    named: objectives, trainables, both joined by `+`, or recipes. limit: what each may spend, its stages and
    sampling included: `10m`, `2e15flops` or `50000tokens`. seeds: how many, from 0. halving: start with a
    quarter of the budget and one seed, and go on with the better half, twice. by: the key that keeps examples
    on one side of the split; people where the data know them, else each example by itself. suite: tasks over
    the usual ones. fit: options of every training step over those that are chosen by size. jobs: methods
    carried out at a time, each in a process. ray: let Ray spread them over its machines.

    Gives what comparison.json holds; that file and a page, report.html, are in `to`. What is on the shelf is
    not done again, so that the same call goes on where it was interrupted.
    """
    spending, tell = budget.parse(limit), say or (lambda text: None)
    registry, read = components(use), references.absolute(data)
    seen = look(read, registry)
    settings = Settings(load.parameters(str(model)), seen, registry, fit or {})
    known = methods(named, registry, settings)
    if len(known) < 2:
        raise UsageError(f"{named[0]}: one method is nothing to compare: name two at least")
    key = by or ("people" if seen.people else "id")
    root = Path(to) if to else Path("runs") / f"compare-on-{Path(str(data)).stem}"
    own = tuple(suite) or _usual(seen)
    base = Plan(
        "", tuple(named), read, str(model), key, spending, 0, seen, own, dict(fit or {}),
        tuple(map(str, use)), str(root),
    )  # fmt: skip
    for method in known:
        for line in method.said:
            tell(f"method  {method.name}: {line}")
    with keeping.hold(root):
        go = Going(base, tell, jobs, ray)
        runs, dropped = _halved(known, go) if halving else ({}, {})
        runs |= _carried_out([method for method in known if method.name not in dropped], go, seeds)
        known = [method for method in known if method.name not in go.failed]
        left = [method for method in known if method.name not in dropped]
        if len(left) < 2:
            raise UsageError(f"there is nothing left to compare: {_reasons(go.failed)}")
        found = {
            "title": f"{', '.join(one.name for one in known)} on {data}",
            "command": command or f"turnsmith.compare({list(named)!r}, data={str(data)!r})",
            "version": version("turnsmith"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "model": str(model),
            "data": {"read": str(data), "by": key, **provenance(str(data))},
            "budget": {"text": str(spending), **asdict(spending)},
            "seeds": seeds,
            "energy_note": cost.ENERGY_NOTE,
            "methods": [_row(method, runs[method.name], dropped.get(method.name)) for method in known],
            "failed": go.failed,
            "varies": by_the_clock(spending.unit),
        }
        figures = Figures(tuple(method.name for method in left), runs, _metrics(own, registry), _items)
        judged = advice.judged(found["methods"], figures, found["budget"])
        found |= {"tasks": judged.tasks, "against_best": judged.against_best, "advice": judged.words}
        return {**found, "report": str(_leave(found, root, tell))}


def _leave(found: Mapping[str, Any], root: Path, tell: Say) -> Path:
    """Write comparison.json and its page; what another comparison left is kept. Gives where the page is."""
    from turnsmith.report import comparison

    if _lost(found, root):
        aside = keeping.set_aside(root, wheels.home() / "shelf")
        tell(f"kept    {aside}: what another run had left in {root}")
    write_text(root / keeping.COMPARISON, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return comparison.write(found, root)


def _lost(found: Mapping[str, Any], root: Path) -> bool:
    """Whether what is there says anything else than what was found, but for when and by which command."""
    try:
        there = json.loads((root / keeping.COMPARISON).read_text("utf-8"))
    except FileNotFoundError:
        return (root / keeping.REPORT).exists()
    except ValueError:
        return True
    plain = json.loads(json.dumps(found))
    names = [name for name in plain if name not in ("finished", "command")]
    return not is_object(there) or any(there.get(name) != plain[name] for name in names)


@dataclass(frozen=True, slots=True)
class Going:
    """How plans are carried out, and why some methods could not be."""

    base: Plan
    tell: Say
    jobs: int
    ray: bool
    failed: dict[str, str] = field(default_factory=dict[str, str])

    def all(self, known: Sequence[Method], plans: Sequence[Plan]) -> dict[str, dict[str, Any]]:
        """What came of each method; those that fail are said, and taken no further."""
        named = [replace(plan, method=method.name) for method, plan in zip(known, plans, strict=True)]
        made = spread(carry_out, named, jobs=self.jobs, ray=self.ray, say=self.tell)
        for method, run in zip(known, made, strict=True):
            if "failed" in run:
                self.failed[method.name] = run["failed"]
                if self.jobs > 1 or self.ray:  # else it was said when it came
                    self.tell(f"left out: {method.name}: {run['failed']}")
        together = zip(known, made, strict=True)
        return {method.name: run for method, run in together if "failed" not in run}


def _reasons(failed: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in failed.items())


def _usual(seen: Look) -> tuple[Any, ...]:
    held = {"on": seen.texts[1]}
    return ({"heldout": held}, *FORGETTING, {"replies": held})


# --------------------------------------------------------------------------------------- carrying out


def _carried_out(known: Sequence[Method], go: Going, seeds: int) -> dict[str, list[dict[str, Any]]]:
    """The runs of each method, one for each seed. The first seed shows what the others' steps cost."""
    first = go.all(known, [go.base] * len(known))
    found = {name: [run] for name, run in first.items()}
    for seed in range(1, seeds):
        there = [method for method in known if method.name in found]
        rates = [tuple(Rate(**one) for one in found[method.name][0]["rates"]) for method in there]
        made = go.all(there, [replace(go.base, seed=seed, rates=one) for one in rates])
        found = {name: [*found[name], run] for name, run in made.items()}
    return found


def _halved(known: Sequence[Method], go: Going) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Runs of those that were dropped, and at which budget. Successive halving (arXiv:1502.07943): a method
    and the baseline beside it stay or go together."""
    left, runs, dropped = list(known), {}, {}
    registry = components(go.base.use)
    for share in RUNGS[:-1]:
        small = replace(go.base, budget=go.base.budget.times(share), to=f"{go.base.to}/rung-{share:g}")
        if len([method for method in left if method.beside is None]) <= 2:
            break
        made = {name: [run] for name, run in go.all(left, [small] * len(left)).items()}
        heads = [method for method in left if method.beside is None and method.name in made]
        figures = Figures(tuple(made), made, _metrics(go.base.suite, registry), _items)
        order = sorted(heads, key=lambda one, f=figures: -advice.gain(f, one.name))
        kept = {method.name for method in order[: -(-len(heads) // 2)]}
        gone = [m for m in left if m.name in made and m.name not in kept and m.beside not in kept]
        for method in gone:
            runs[method.name], dropped[method.name] = made[method.name], str(small.budget)
            go.tell(f"drop    {method.name}, after {small.budget}")
        left = [method for method in left if method.name in made and method not in gone]
    return runs, dropped


def carry_out(plan: Plan, say: Say) -> dict[str, Any]:
    """One method under one seed: what it spent, what measured it, and what its training steps cost; or, under
    `failed`, why it cannot be carried out."""
    try:
        return _run(plan, say)
    except TurnsmithError as error:
        say(f"left out: {plan.method}: {error}")
        return {"failed": str(error)}


def _run(plan: Plan, say: Say) -> dict[str, Any]:
    registry = components(plan.use)
    settings = Settings(load.parameters(plan.model), plan.look, registry, plan.fit)
    method = next(one for one in methods(plan.named, registry, settings) if one.name == plan.method)
    place = Path(plan.to) / method.name.replace(" ", "-").replace("/", "-") / f"seed-{plan.seed}"
    say(f"carry out {method.name}, seed {plan.seed}, {plan.budget}")
    with Steps(
        plan.model, name=method.name, title=f"{method.name}, within {plan.budget}", seed=plan.seed,
        forgetting=False, use=plan.use, to=place, say=say,
    ) as go:  # fmt: skip
        share = SHARE.get(plan.by, MOST)
        go.data({TRAIN: 1 - share, HELD: share}, read=plan.data, by=plan.by, stages=[ASKED])
        if TEXT not in plan.look.parts:
            for source, name in zip((TRAIN, HELD), plan.look.texts, strict=True):
                go.data(name, given=source, stages=[{"renamed": {"part": "chosen"}}])
        purse = Purse(go, plan.budget, plan.rates)
        made = method.steps(purse)
        tasks = _measure(go, made, method.asked, plan)
        steps = go.runner.steps
    trained = [step for step in steps if step["verb"] == "train"]
    return {
        "seed": plan.seed,
        "steps": [step["steps"] for step in trained],
        "spent": asdict(purse.spent),
        "sampling": asdict(purse.sampling),
        "peak_memory_gib": max(step["peak_memory_gib"] for step in trained),
        "energy_wh": cost.energy_wh(purse.spent.seconds, machine()["cores"] or 1),
        "learning": max(step["parameters"]["learning"] for step in trained),
        "rates": [asdict(one) for one in purse.rates],
        "measured": {name: task["measurements"] for name, task in tasks.items()},
        "sizes": {name: task["sizes"] for name, task in tasks.items() if "sizes" in task},
        "shown": [task for task in tasks.values() if task["shown"]],
        "model": made,
        "reports": str(place),
    }


def _measure(go: Steps, made: str, asked: str | None, plan: Plan) -> dict[str, dict[str, Any]]:
    """What each task of the suite found, by its name: on the held-out examples that all methods are measured
    on, whatever a recipe calls by their name. asked: the same replies behind the words that the method's own
    model expects; the start model is measured on them as they are."""
    held = plan.look.texts[1]
    first = f"{held}@1"
    tasks = go.evaluate(made, suite=[_moved(task, held, first) for task in plan.suite])["tasks"]
    found = {_task(task): record for task, record in zip(plan.suite, tasks, strict=True)}
    if asked is None:
        return found
    if _replies(go.examples(asked)) != _replies(go.examples(first)):
        raise UsageError(
            f"the recipe's {asked!r} are made of the held-out data, and have other examples or other "
            "replies: what is compared is the same replies, behind other words. Give these data another name"
        )
    suite = [task for task in plan.suite if _split(task)[1].get("on") == held]
    own = go.evaluate(made, suite=[_moved(task, held, asked) for task in suite])["tasks"] if suite else []
    for task, record in zip(suite, own, strict=True):
        before = found[_task(task)]
        sides = {**before["measurements"], made: record["measurements"][made]}
        metrics = _metrics([task], go.runner.registry).get(_task(task), ())
        sizes = sorted({metric.size for metric in metrics if metric.size})
        found[_task(task)] = {**before, "measurements": sides, "shown": record["shown"], "sizes": sizes}
    return found


def _replies(examples: Sequence[Example]) -> list[tuple[str, list[str]]]:
    texts = [(one.id, one.parts.get(TEXT)) for one in examples]
    return [
        (id, [message.content for message in text.messages if message.role == "assistant"])
        for id, text in texts
        if isinstance(text, Conversation)
    ]


# ------------------------------------------------------------------------------------------- figures


def _split(task: Any) -> tuple[str, Mapping[str, Any]]:
    """A task of the suite as its name and its options."""
    name, options = (task, None) if isinstance(task, str) else next(iter(task.items()))
    return name, options or {}


def _task(task: Any) -> str:
    name, options = _split(task)
    return f"{name} on {options['on']}" if options.get("on") else name


def _moved(task: Any, one: str, other: str) -> Any:
    """The task, on other data where it is on `one`."""
    name, options = _split(task)
    return {name: {**options, "on": other}} if options.get("on") == one else task


def _metrics(suite: Sequence[Any], registry: Any) -> dict[str, tuple[Metric, ...]]:
    """The metrics of each task that gives figures, by the name that runs know it by."""
    found: dict[str, tuple[Metric, ...]] = {}
    for task in suite:
        metrics: tuple[Metric, ...] = registry.function("task", _split(task)[0]).metrics
        if metrics:
            found[_task(task)] = metrics
    return found


def _items(run: Mapping[str, Any], task: str) -> tuple[list[Item], list[Item]]:
    """The items of the start model and of the run's own, by one task. Behind words of its own a conversation
    may be cut elsewhere: where less of it was measured, or more, the item is left out."""
    shelf = Shelf(wheels.home() / "shelf")
    keys: Mapping[str, str] = run["measured"][task]
    before, after = items(shelf, keys["base"]), items(shelf, keys[str(run["model"])])
    sizes = run["sizes"].get(task, ())
    known = {item.id: [item.values.get(size) for size in sizes] for item in before}
    return before, [item for item in after if known.get(item.id) == [item.values.get(one) for one in sizes]]


def _row(method: Method, runs: Sequence[Mapping[str, Any]], dropped: str | None) -> dict[str, Any]:
    """What one method was and cost, in the mean over its seeds."""

    def mean(of: Any) -> float:
        return sum(of(run) for run in runs) / len(runs)

    return {
        "name": method.name,
        "said": list(method.said),
        "beside": method.beside,
        "dropped": dropped,
        "seeds": len(runs),
        "learning": runs[0]["learning"],
        "steps": [run["steps"] for run in runs],
        "spent": {name: mean(lambda run, n=name: run["spent"][n]) for name in ("seconds", "flops", "tokens")},
        "sampling_seconds": mean(lambda run: run["sampling"]["seconds"]),
        "peak_memory_gib": max(run["peak_memory_gib"] for run in runs),
        "energy_wh": mean(lambda run: run["energy_wh"]),
        "reports": [run["reports"] for run in runs],
        "shown": runs[0]["shown"],
    }
