"""Numbers and results in words: no digit that the interval does not carry, no loss left unsaid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Measure = tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]  # evaluate step, task, metric
NONE = "not measured"
MINUS, NARROW, TIMES = "\u2212", "\u202f", "\u00a0\u00d7\u00a0"
HUGE = 1e300  # beyond it differences overflow; infinities and nan are not below it either
CLAUSES = 3  # measures named in the sentence; the others are counted


def finite(value: object) -> float | None:
    """The value if it is a number that can be drawn or written, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < HUGE else None


def count(value: object) -> str:
    """A whole number, in groups of three.

    >>> count(134515008).replace(NARROW, " ")
    '134 515 008'
    """
    number = finite(value)
    return NONE if number is None else f"{number:,.0f}".replace(",", NARROW).replace("-", MINUS)


def figure(value: object, places: int | None = None) -> str:
    """A number with `places` decimals, or three digits that count. Zero is 0 and minus is a minus sign.

    >>> figure(0.0514), figure(2), figure(12.346), figure(0.27, 3), figure(-0.0, 3), figure(None)
    ('0.0514', '2', '12.3', '0.270', '0', 'not measured')
    >>> ascii(figure(-3.1e13))
    "'\\\\u22123.1\\\\xa0\\\\xd7\\\\xa010\\\\xb9\\\\xb3'"
    """
    number = finite(value)
    if number is None:
        return NONE
    number += 0.0  # without a sign of its own where it is 0
    if number and places is not None:
        text = f"{number:.{places}f}"
        return (text.lstrip("-") if float(text) == 0 else text).replace("-", MINUS)
    size = abs(number)
    if size and not 1e-3 <= size < 1e7:
        return _power(number)
    if size >= 1000:
        return count(number)
    return f"{number:.3g}".replace("-", MINUS)


def _power(number: float) -> str:
    mantissa, exponent = f"{number:.2e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{float(mantissa):g}{TIMES}10{raised}".replace("-", MINUS)


def share(part: object, whole: object) -> str:
    """A part of a whole in percent.

    >>> share(25, 55), share(1, 0)
    ('45.5\\xa0%', 'not measured')
    """
    top, bottom = finite(part), finite(whole)
    return NONE if top is None or not bottom else f"{100 * top / bottom:.3g}\u00a0%"


def duration(seconds: object) -> str:
    """
    >>> [duration(s).replace(chr(160), " ") for s in (0.25, 3.14, 560, 7260, None)]
    ['0.25 s', '3.1 s', '9 min 20 s', '2 h 1 min', 'not measured']
    """
    number = finite(seconds)
    if number is None:
        return NONE
    if number < 59.95:
        return f"{number:.2g}\u00a0s" if number < 10 else f"{number:.0f}\u00a0s"
    whole = round(number)
    if whole < 3600:
        return f"{whole // 60}\u00a0min" + (f" {whole % 60}\u00a0s" if whole % 60 else "")
    return f"{whole // 3600}\u00a0h {whole % 3600 // 60}\u00a0min"


def places(row: Mapping[str, Any]) -> int | None:
    """Decimals that the interval of a difference supports: two digits of its half width; None without one."""
    low, high = finite(row.get("low")), finite(row.get("high"))
    if low is None or high is None or high <= low:
        return None
    return min(4, max(2, 1 - math.floor(math.log10((high - low) / 2))))


def difference(row: Mapping[str, Any]) -> str:
    """A difference with its sign.

    >>> difference({"difference": 0.27, "low": 0.24, "high": 0.31})
    '+0.270'
    """
    text = figure(row.get("difference"), places(row))
    number = finite(row.get("difference"))
    return f"+{text}" if number is not None and number > 0 else text


def interval(row: Mapping[str, Any]) -> str:
    """The interval of a difference, empty where there is none."""
    low, high = finite(row.get("low")), finite(row.get("high"))
    if low is None or high is None:
        return ""
    return f"{figure(low, places(row))} to {figure(high, places(row))}"


def result(run: Mapping[str, Any]) -> str:
    """What came out, as one sentence; honest about what is worse, undecided, unfinished or not measured."""
    clauses = [clause(task, metric, ends=at == 0) for at, (_, task, metric) in enumerate(_headlines(run))]
    cost: Mapping[str, Any] = run.get("cost") or {}
    seconds = cost.get("seconds")
    took = f"took {duration(seconds)}" if finite(seconds) is not None else ""
    if run.get("state") == "failed":
        start = "The run failed before it was finished"
    elif run.get("state") == "stopped":
        start = "The run was stopped before it was finished"
    elif not clauses:
        start = "The run is finished, but nothing was measured that could tell gain from loss"
    else:
        start = ""
    said = "; ".join([*([start] if start else []), *clauses, *([took] if took else [])])
    return said[:1].upper() + said[1:] + "."


def clause(task: Mapping[str, Any], metric: Mapping[str, Any], *, ends: bool = True) -> str:
    """One measure in words. ends: with the figures before and after.

    A figure that is 0 before and better low is a distance from the start: it is said as it is, not as a rise.
    """
    subject, unit, verdict = _subject(task, metric), _unit(metric), metric.get("verdict")
    change, after, before, low, high = (
        finite(metric.get(key)) for key in ("difference", "after", "before", "low", "high")
    )
    digits = places(metric)
    if change is None or (before == 0 and metric.get("better") == "lower"):
        return f"{subject} is {figure(after, digits)}{unit}" + _bracketed(_sure(metric, low, high))
    between = f"from {figure(before, digits)} to {figure(after, digits)}" if ends else ""
    open_ = low is not None and high is not None and low <= 0 <= high
    if open_ or verdict == "undecided" or change == 0:
        said = f"difference {difference(metric)}{unit}"
        return f"{subject}: no change can be told" + _bracketed(between, said, _sure(metric, low, high))
    if change < 0 and low is not None and high is not None:
        low, high = -high, -low
    verb, worse = "fell" if change < 0 else "rose", ", which is worse" if verdict == "worse" else ""
    said = f"{subject} {verb} by {figure(abs(change), digits)}{unit}{worse}"
    return said + _bracketed(between, _sure(metric, low, high))


def _sure(metric: Mapping[str, Any], low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return f"{_level(metric)} interval {figure(low, places(metric))} to {figure(high, places(metric))}"


def _bracketed(*parts: str) -> str:
    said = ", ".join(part for part in parts if part)
    return f" ({said})" if said else ""


def _subject(task: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    """What was measured: the task's title, and the metric where that says more; small inside a sentence."""
    name, title = str(metric.get("name") or ""), str(task.get("title") or task.get("task") or "")
    if title[1:2].islower():
        title = title[0].lower() + title[1:]
    if not title or title.casefold() == name.casefold():
        return name
    return f"{title} ({name})" if name else title


def _unit(metric: Mapping[str, Any]) -> str:
    """The unit after a number; a share is a bare number."""
    unit = str(metric.get("unit") or "")
    return f" {unit}" if unit and unit != "share" else ""


def tally(run: Mapping[str, Any]) -> str:
    """How many measures went which way, those that got worse by name; empty where none was judged."""
    judged = [(metric.get("verdict"), str(metric.get("name") or "\u2013")) for _, _, metric in measures(run)]
    judged = [(verdict, name) for verdict, name in judged if verdict in ("better", "worse", "undecided")]
    if not judged:
        return ""
    worse = [name for verdict, name in judged if verdict == "worse"]
    better, open_ = (sum(verdict == which for verdict, _ in judged) for which in ("better", "undecided"))
    named = f" ({', '.join(worse)})" if worse else ""
    plural = "measure" if len(judged) == 1 else "measures"
    counts = f"{better} got better, {len(worse)} worse{named}, {open_} undecided"
    return f"Of {len(judged)} {plural}, {counts}."


def measures(run: Mapping[str, Any]) -> list[Measure]:
    """(evaluate step, task, metric) of all that was measured, in order."""
    steps: Sequence[Mapping[str, Any]] = run.get("steps") or ()
    return [
        (step, task, metric)
        for step in steps
        if step.get("verb") == "evaluate"
        for task in step.get("tasks") or ()
        for metric in task.get("metrics") or ()
    ]


def _headlines(run: Mapping[str, Any]) -> list[Measure]:
    """What the claim is about, then the first metric of each other task, at most CLAUSES in all."""
    found = measures(run)
    claims = [str(claim.get("text") or "") for claim in run.get("claim") or ()]
    claimed = [one for one in found if any(claim.startswith(_said(*one)) for claim in claims)]
    chosen = claimed[:CLAUSES]
    for step, task, metric in found:
        if len(chosen) < CLAUSES and not any(step is s and task is t for s, t, _ in chosen):
            chosen.append((step, task, metric))
    return chosen


def _said(step: Mapping[str, Any], task: Mapping[str, Any], metric: Mapping[str, Any]) -> tuple[str, str]:
    """How a claim on this measure begins: with or without the data that it was measured on."""
    end = f": {metric.get('name')} of {step.get('model')} against {step.get('against')} "
    return f"{task.get('task')}{end}", f"{task.get('task')} on {task.get('on')}{end}"


def _level(metric: Mapping[str, Any]) -> str:
    level = finite(metric.get("level"))
    return f"{100 * level:g}\u00a0%" if level is not None else "the"
