"""What an evaluate step found, in lines for a terminal; and what should be known of a training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def figures(tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each figure, then one for each model and task where replies failed, were cut, or cost."""
    named = Counter(task["task"] for task in tasks)
    lines: list[str] = []
    for task, metric in ((one, metric) for one in tasks for metric in one["metrics"]):
        name = f"{metric['name']} on {task['on']}" if named[task["task"]] > 1 else metric["name"]
        if metric["difference"] is None:
            ends, change = f"{metric['after']:.3f}", f"[{metric['low']:.3f}, {metric['high']:.3f}]"
            lines.append(f"{name:<29} {ends:<17} {change:<27} n={metric['n']}")
            continue
        left = f", {metric['left_out']:,} left out" if metric.get("left_out") else ""
        lines.append(f"{name:<29} {changed(metric)}{left}")
    for task in tasks:
        title = f"{task['task']} on {task['on']}" if named[task["task"]] > 1 else str(task["task"])
        lines += [f"{title}, {line}" for line in task["remarks"]]
    return lines


def changed(figure: Mapping[str, Any]) -> str:
    """A figure before and after, the difference with its interval, and what that says, in columns."""
    change = f"{figure['difference']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}]"
    ends = f"{figure['before']:.3f} -> {figure['after']:.3f}"
    return f"{ends:<17} {change:<27} {figure['verdict']}  n={figure['n']}"


def of_training(name: str, record: Mapping[str, Any]) -> list[str]:
    """What should be known of a training before its model is believed. name: of the step.

    >>> of_training("tuned", {"steps": 40, "skipped": 3})
    ['train tuned: 3 of 40 steps were left out: their loss or gradient was no number']
    """
    found = [fault(name, said) for said in record.get("health", ())]
    patience = record.get("fit", {}).get("patience")
    if patience and (asked := record["asked"]) > record["steps"]:
        found.append(
            f"train {name}: ended after {record['steps']:,} of {asked:,} steps: {patience:,} evaluations in "
            f"a row were no better than that after step {record['best_step']:,}, whose state is kept"
        )
    if skipped := record.get("skipped", 0):
        why = "their loss or gradient was no number"
        found.append(f"train {name}: {skipped:,} of {record['steps']:,} steps were left out: {why}")
    return found


def fault(name: str, said: str) -> str:
    """What shows that a training degenerates, with the name of its step."""
    return f"train {name}: {said}"


def remarks(counts: Mapping[str, Any]) -> list[str]:
    """What should be known of what a task measured on: examples that were cut or left out, and of replies how
    many failed and why, were cut, and what they cost.

    counts: `items`, and by model `lost`, `failed`, `cut` and `spent`, as measurements record them.
    """
    return [*_lost(counts["lost"]), *_failed(counts), *_cut(counts), *spent_on(counts["spent"])]


def _lost(models: Mapping[str, Mapping[str, int] | None]) -> list[str]:
    """Examples that were cut or left out, by reason; said once where it is the same for all models."""
    told = {model: reasons(lost) for model, lost in models.items() if lost}
    if len(told) == len(models) and len(set(told.values())) == 1:
        return [f"examples: {next(iter(told.values()))}"]
    return [f"{model}: examples: {said}" for model, said in told.items()]


def reasons(counts: Mapping[str, int]) -> str:
    """How many there are for each reason.

    >>> reasons({"too long": 1200, "no opening": 1})
    '1,200 too long; 1 no opening'
    """
    return "; ".join(f"{count:,} {reason}" for reason, count in counts.items())


def _failed(counts: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for model, failed in counts["failed"].items():
        if failed:
            found.append(
                f"{model}: {sum(failed.values()):,} of {counts['items']:,} not answered: {reasons(failed)}"
            )
    return found


def _cut(counts: Mapping[str, Any]) -> list[str]:
    """The share of replies that went on to the limit, where there are any."""
    return [
        f"{model}: {found['cut'] / found['replies']:.1%} of {found['replies']:,} replies cut at the limit"
        for model, found in counts["cut"].items()
        if found and found["cut"]
    ]


def spent_on(models: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """What was asked of each model that is behind an endpoint; nothing of those in this process."""
    found: list[str] = []
    for model, spent in models.items():
        if not spent:
            continue
        said = [f"{spent['asked']:,} replies asked for, {spent['recorded']:,} recorded before"]
        said += (
            [f"{spent['prompt']:,} tokens read, {spent['completion']:,} written"] if spent["asked"] else []
        )
        said += [f"{spent['retries']:,} tries more"] if spent["retries"] else []
        said += [f"the server did not count {spent['unmetered']:,}"] if spent["unmetered"] else []
        said += [f"cost {spent['cost']:.4f}"] if spent["cost"] is not None and spent["asked"] else []
        found.append(f"{model}: {', '.join(said)}")
    return found
