"""What follows from the figures of a comparison, in plain words; and what does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from turnsmith.evaluation.items import Item, Metric, together
from turnsmith.evaluation.statistics import Difference

Sides = tuple[Sequence[Item], Sequence[Item]]
Items = Callable[[Mapping[str, Any], str], Sides]
Runs = Mapping[str, Sequence[Mapping[str, Any]]]
Metrics = Mapping[str, Sequence[Metric]]
# What a reader wants to keep, most telling first: among methods that gain alike, these decide.
KEPT = ("right by generation", "right by likelihood", "replies that end", "KL from the start model")
FAR = 0.15  # of the budget: what is further from it than this is said


@dataclass(frozen=True, slots=True)
class Judged:
    """tasks: each metric, with every method against the start model. against_best: of the first metric, every
    other method against the one that gains most. words: what to do, and why."""

    tasks: list[dict[str, Any]]
    against_best: dict[str, Any]
    words: list[str]


@dataclass(frozen=True, slots=True)
class Figures:
    """The measurements of all methods. names: those that were carried out to the end, in their order."""

    names: tuple[str, ...]
    runs: Runs
    metrics: Metrics
    items: Items
    known: dict[tuple[str, str], dict[str, Difference]] = field(default_factory=dict, repr=False)

    def against_start(self, task: str, metric: Metric) -> dict[str, Difference]:
        """Each method against the start model, all judged together."""
        if (task, metric.name) not in self.known:
            sides = {name: self._sides(name, task) for name in self.names}
            self.known[task, metric.name] = self._judged(metric, sides)
        return self.known[task, metric.name]

    def against(self, other: str, task: str, metric: Metric, names: Sequence[str]) -> dict[str, Difference]:
        """Each of `names` against another method, seed by seed, all judged together."""
        before = [after for _, after in self._sides(other, task)]
        pairs = {
            name: [(one, after) for one, (_, after) in zip(before, self._sides(name, task), strict=True)]
            for name in names
        }
        return self._judged(metric, pairs)

    def _judged(self, metric: Metric, sides: Mapping[str, Sequence[Sides]]) -> dict[str, Difference]:
        return together(metric, sides) if sides else {}

    def _sides(self, name: str, task: str) -> list[Sides]:
        return [self.items(run, task) for run in self.runs[name]]

    def find(self, quantity: str) -> tuple[str, Metric] | None:
        """The task and metric of a name, where it was measured."""
        return next(
            ((task, m) for task, ones in self.metrics.items() for m in ones if m.name == quantity), None
        )

    @property
    def first(self) -> tuple[str, Metric]:
        """What the methods are ranked by: the first figure of the first task."""
        task = next(iter(self.metrics))
        return task, self.metrics[task][0]


def gain(figures: Figures, name: str) -> float:
    """How much better than the start model a method is by what methods are ranked by."""
    task, metric = figures.first
    found = figures.against_start(task, metric)[name].difference
    return -found if metric.better == "lower" else found


def judged(rows: Sequence[Mapping[str, Any]], figures: Figures, budget: Mapping[str, Any]) -> Judged:
    """Every figure, and what it comes to."""
    tasks = [
        {
            "task": task,
            **{key: getattr(metric, key) for key in ("name", "unit", "better", "of")},
            "methods": {
                name: {**asdict(one), "verdict": one.verdict(metric.better)}
                for name, one in figures.against_start(task, metric).items()
            },
        }
        for task, metrics in figures.metrics.items()
        for metric in metrics
    ]
    baselines = {row["name"] for row in rows if row["beside"]}
    best = max((one for one in figures.names if one not in baselines), key=lambda name: gain(figures, name))
    task, metric = figures.first
    rest = [name for name in figures.names if name != best]
    behind = figures.against(best, task, metric, rest)
    others = {name: {**asdict(one), "verdict": one.verdict(metric.better)} for name, one in behind.items()}
    words = [
        *_choice(best, {name: one for name, one in behind.items() if name not in baselines}, rows, figures),
        *_beside(rows, figures),
        *_spending(rows, budget),
    ]
    return Judged(tasks, {"best": best, "others": others}, words)


# ------------------------------------------------------------------------------------------- in words


def _choice(
    best: str, behind: Mapping[str, Difference], rows: Sequence[Mapping[str, Any]], figures: Figures
) -> list[str]:
    """Which method to take; nothing where none is better than the start."""
    task, metric = figures.first
    start = figures.against_start(task, metric)
    better = [name for name, one in start.items() if one.verdict(metric.better) == "better"]
    if not better:
        ranges = "; ".join(f"{name} {_said(one)}" for name, one in start.items())
        none = f"None of the methods is better than the start model by {metric.name}: {ranges}."
        return [none, "So nothing is recommended: give more budget, seeds or held-out data."]
    level = [name for name in (best, *_tied(behind, metric)) if name in better]
    told = (
        f"{best} gains most: {metric.name} {start[best].before:.3f} -> {start[best].after:.3f}, "
        f"{_said(start[best])} {metric.unit}, n={start[best].n}"
    )
    if len(level) == 1:
        tied = ", ".join(_tied(behind, metric))
        level_with = (
            f"; it cannot be told apart from {tied}, none of which is shown to be better than the start"
        )
        ahead = level_with if tied else ", ahead of every other method" if behind else ""
        return [f"Take {level[0]}. {told}{ahead}.", *_price(level[0], figures)]
    named = ", ".join(name for name in level if name != best)
    said = [f"{told}; but it cannot be told apart from {named} by this measure: those intervals include 0."]
    return [*said, *_among(level, rows, figures)]


def _tied(behind: Mapping[str, Difference], metric: Metric) -> list[str]:
    return [name for name, one in behind.items() if one.verdict(metric.better) == "undecided"]


def _among(level: Sequence[str], rows: Sequence[Mapping[str, Any]], figures: Figures) -> list[str]:
    """Which of the methods that gain alike: the one that keeps more, else the one that needs less memory."""
    for quantity in KEPT:
        found = figures.find(quantity)
        if found is None:
            continue
        task, metric = found
        start = figures.against_start(task, metric)
        sign = -1 if metric.better == "lower" else 1
        keeper = max(level, key=lambda name, s=start, g=sign: g * s[name].difference)
        others = figures.against(keeper, task, metric, [name for name in level if name != keeper])
        if all(one.verdict(metric.better) == "worse" for one in others.values()):
            rest = ", ".join(f"{name} {start[name].after:.3f}" for name in level if name != keeper)
            kept = f"{start[keeper].after:.3f} ({start[keeper].before:.3f} before), against {rest}"
            return [f"Take {keeper}: of these it keeps most, by {quantity}: {kept}."]
    memory = {row["name"]: row["peak_memory_gib"] for row in rows}
    light = min(level, key=lambda name: memory[name])
    least = f"Take {light}: it needs the least memory ({memory[light]:.1f} GiB)."
    return [f"Nor does what they forget decide between them. {least}"]


def _price(name: str, figures: Figures) -> list[str]:
    """What the method lost, where that is decided."""
    lost: list[str] = []
    for quantity in KEPT:
        if found := figures.find(quantity):
            one = figures.against_start(*found)[name]
            if one.verdict(found[1].better) == "worse":
                lost.append(f"{quantity} {one.before:.3f} -> {one.after:.3f}, {_said(one)}")
    return [f"What {name} pays for it: {'; '.join(lost)}."] if lost else []


def _beside(rows: Sequence[Mapping[str, Any]], figures: Figures) -> list[str]:
    """Whether a method that goes by ratings does more than its baseline, which goes by length."""
    said: list[str] = []
    task, metric = figures.first
    for row in rows:
        if row["beside"] and {row["name"], row["beside"]} <= set(figures.names):
            one = figures.against(row["name"], task, metric, [row["beside"]])[row["beside"]]
            came = one.verdict(metric.better)
            told = f"{row['beside']} against {row['name']}: {_said(one)}"
            more = "whatever it shows may be the length of the rated chats alone"
            more = "ratings tell more than length here" if came == "better" else more
            said.append(f"{told}, {came}: {more}.")
    return said


def _spending(rows: Sequence[Mapping[str, Any]], budget: Mapping[str, Any]) -> list[str]:
    """Who spent much more or less than the budget: training takes whole steps, and machines change pace."""
    used = {
        row["name"]: row["spent"][budget["unit"]] / budget["amount"] for row in rows if not row["dropped"]
    }
    far = [f"{name} {share:.0%}" for name, share in used.items() if abs(share - 1) > FAR]
    return [f"Of the budget was spent: {', '.join(far)}; the others came close to it."] if far else []


def _said(one: Difference) -> str:
    return f"{one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
