"""report.html: a run on one page that needs nothing but itself, made from what the run left behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

from jinja2 import ChainableUndefined, Environment, FileSystemLoader, Undefined
from markupsafe import Markup

from turnsmith.report import charts, curves, measures, words
from turnsmith.shelf import write_text

NAME = "report.html"
TOKENS = 700  # of one example whose weights are shown
CONTROL = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
TURNING = dict.fromkeys(range(0x202A, 0x202F), 0xFFFD)  # would set the page's own words backwards
ADDRESS = re.compile(r"https?://[^\s<>\"']+")
PAPER = re.compile(r"arxiv:\s*(\d{4}\.\d{4,5})(v\d+)?", re.IGNORECASE)


def write(run: Mapping[str, Any], directory: Path) -> Path:
    """Make the page of a run in its directory; gives where it is.

    run: what the run's run.json holds. Curves are read from the files that its train steps name; paths are
    relative to `directory`. What is absent or null is said to be not measured. Raises StorageError where the
    disk is full.
    """
    path = directory / NAME
    write_text(path, render(run, directory))
    return path


def render(run: Mapping[str, Any], directory: Path) -> str:
    """The page as text."""
    seen = tidy(run)
    steps: list[dict[str, Any]] = [step for step in seen.get("steps") or () if isinstance(step, dict)]
    by_verb: dict[str, list[dict[str, Any]]] = {"data": [], "train": [], "evaluate": []}
    for step in steps:
        by_verb.setdefault(str(step.get("verb")), []).append(step)
    page = environment().get_template("report.html.jinja")
    return page.render(
        run=seen,
        steps=steps,
        data=by_verb["data"],
        training=[(step, _charts(step, directory)) for step in by_verb["train"]],
        evaluations=[(step, measures.panels(step)) for step in by_verb["evaluate"]],
        fallen=_fallen(by_verb["evaluate"]),
        replies=_with_shown((step, task) for step in by_verb["evaluate"] for task in step.get("tasks") or ()),
        masks=[
            (step, example)
            for step in by_verb["train"]
            for example in step.get("shown") or ()
            if example.get("tokens")
        ],
        cost=_cost(seen, by_verb["train"]),
        sentence=words.result(seen),
        tally=words.tally(seen),
        most=TOKENS,
    )


@cache
def environment() -> Environment:
    """Templates beside this file; everything that is put in is escaped."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=ChainableUndefined,
        finalize=present,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., object]] = {
        "count": words.count,
        "figure": words.figure,
        "duration": words.duration,
        "iso": iso,
        "day": day,
        "linked": linked,
        "visible": visible,
        "weighed": weighed,
        "plain": plain,
        "slug": slug,
        "turns": turns,
        "difference": words.difference,
        "interval": words.interval,
        "largest": largest,
    }
    found.filters.update(filters)  # pyright: ignore[reportUnknownMemberType]
    found.globals["share"] = words.share  # pyright: ignore[reportUnknownMemberType]
    return found


def present(value: object) -> object:
    """What the page shows of a value: a dash for a text that is not there."""
    return "\u2013" if value is None or isinstance(value, Undefined) else value


def tidy(value: Any) -> Any:
    """The same JSON, control characters made visible, halves of surrogate pairs replaced, nulls off lists.

    >>> tidy({"a": ["x" + chr(0), None]}) == {"a": ["x" + chr(0x2400)]}
    True
    """
    if isinstance(value, str):
        return value.translate(CONTROL | TURNING).encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        found = cast(Mapping[object, object], value)
        return {str(tidy(str(key))): tidy(item) for key, item in found.items()}
    if isinstance(value, list | tuple):
        return [tidy(item) for item in cast(Sequence[object], value) if item is not None]
    return value


def iso(seconds: object) -> str:
    """A duration for machines.

    >>> iso(300.2)
    'PT300.2S'
    """
    return f"PT{words.finite(seconds) or 0:.10g}S"


def slug(text: object) -> str:
    """A word as a class name.

    >>> slug("not judged"), slug('"><script>'), slug(None)
    ('not-judged', 'script', '')
    """
    return re.sub(r"[^a-z0-9]+", "-", str(text or "").lower()).strip("-")


def turns(prompt: object) -> list[Mapping[str, Any]]:
    """A prompt as turns; text by itself is what a user said."""
    if isinstance(prompt, str):
        return [{"role": "user", "text": prompt}]
    if not isinstance(prompt, list):
        return []
    items = cast(list[object], prompt)
    return [cast(Mapping[str, Any], turn) for turn in items if isinstance(turn, Mapping)]


def largest(counts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Counts by name, the largest first."""
    return sorted(counts.items(), key=lambda pair: -(words.finite(pair[1]) or 0))


def day(text: object) -> str:
    """A moment in ISO 8601 as people write it.

    >>> day("2026-11-22T10:00:00Z"), day(None)
    ('22 November 2026, 10:00 UTC', 'not measured')
    """
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text) if text else words.NONE
    zone = f" {moment.tzname()}" if moment.tzinfo else ""
    return f"{moment.day} {moment:%B %Y, %H:%M}{zone}"


def linked(text: object) -> Markup:
    """Text in which addresses and arXiv numbers are links; they are followed only when a reader does."""
    said = str(text or "")
    match = ADDRESS.search(said) or PAPER.search(said)
    if not match:
        return Markup("{}").format(said)
    target = match[0] if match.re is ADDRESS else f"https://arxiv.org/abs/{match[1]}"
    link = Markup('<a href="{}" rel="noopener noreferrer">{}</a>').format(target, match[0])
    return Markup("{}{}{}").format(said[: match.start()], link, said[match.end() :])


def visible(text: object) -> Markup:
    """A token's text with its spaces and line ends to be seen; copying it still gives the text."""
    marked = str(Markup.escape(str(text or "")))
    marked = marked.replace(" ", '<i class="sp"> </i>').replace("\t", '<i class="tab">\t</i>')
    return Markup(marked.replace("\n", '<i class="nl"></i>\n'))


def weighed(weight: object) -> Markup:
    """Class, opacity and title of a token by its loss weight."""
    number = words.finite(weight) or 0.0
    kind = "none" if number == 0 else "minus" if number < 0 else "full" if number >= 1 else "part"
    return Markup('class="t {}" style="--w:{:.2f}" title="weight {}"').format(
        kind, min(1.0, abs(number)), words.figure(number)
    )


def plain(value: object) -> str:
    """An option's value as a recipe would spell it.

    >>> plain(None), plain(True), plain(2e-4), plain({"rank": 16}), plain([])
    ('none', 'true', '0.0002', 'rank 16', 'none')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        found = cast(Mapping[str, object], value)
        return ", ".join(f"{key} {plain(item)}" for key, item in found.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in cast(Sequence[object], value)) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _with_shown(
    tasks: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return [(step, task) for step, task in tasks if task.get("shown")]


def _fallen(steps: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The metrics by which items got worse of which there is something to read."""
    every = [
        (step, row) for step in steps for task in step.get("tasks") or () for row in task.get("metrics") or ()
    ]
    return [pair for pair in every if any(one.get("prompt") for one in _items(pair[1]))]


def _items(metric: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    worst: Mapping[str, Any] = metric.get("worst") or {}
    return worst.get("items") or ()


def _charts(step: Mapping[str, Any], directory: Path) -> list[curves.Chart]:
    if not step.get("path"):
        return []
    home = directory / str(step["path"])
    metrics = curves.rows(home / str(step.get("metrics") or "metrics.jsonl"))
    found = curves.charts(metrics, curves.rows(home / curves.CLOCK))
    watched = step.get("watched")
    return found + (curves.watched(curves.rows(home / str(watched))) if watched else [])


def _cost(run: Mapping[str, Any], training: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The costs of the run, with where the time went and how much of the arithmetic was padding."""
    cost: dict[str, Any] = dict(run.get("cost") or {})
    whole, trained, evaluated = (
        words.finite(cost.get(key)) for key in ("seconds", "train_seconds", "evaluate_seconds")
    )
    parts = [("training", trained or 0.0), ("evaluation", evaluated or 0.0)]
    if whole:
        parts.append(("all else", max(0.0, whole - sum(seconds for _, seconds in parts))))
    slots, tokens = (
        sum(words.finite(step.get(key)) or 0.0 for step in training) for key in ("slots", "tokens")
    )
    said = ", ".join(f"{name} {words.duration(seconds)}" for name, seconds in parts)
    shown = any(seconds for _, seconds in parts)
    return cost | {
        "parts": parts if shown else [],
        "bar": charts.bar([seconds for _, seconds in parts], text=f"Time: {said}") if shown else "",
        "padding": words.share(slots - tokens, slots) if slots else words.NONE,
    }
