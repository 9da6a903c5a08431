"""Verdicts on the claims of recipes, as tables: rows of `docs/results.json` to Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from turnsmith.errors import DataError
from turnsmith.types import is_list, is_object

NEEDED = (
    "card", "recipe", "method", "claim", "figure", "interval", "n", "seeds", "baseline", "verdict",
    "control", "command", "minutes", "date", "machine",
)  # fmt: skip
VERDICTS = ("holds", "fails", "undecided")
NONE_YET = "No claim has been judged yet."


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Every claim in full, with what it was compared with, its control, and how to repeat it.

    rows: see `check`, which is called first. The order is kept: a claim that fails stands among the others.
    """
    heads = (
        "method", "claim", "figure", "against", "control", "items", "seeds", "verdict", "repeat it",
        "minutes", "when and where",
    )  # fmt: skip
    return _table(heads, [_full(row) for row in check(rows)])


def brief(rows: Sequence[Mapping[str, Any]]) -> str:
    """Method, claim, figure and verdict: what the README shows."""
    kept = [
        (f"`{row['method']}`", row["claim"], figure(row), _control(row), f"**{row['verdict']}**")
        for row in check(rows)
    ]
    return _table(("method", "claim", "figure", "control", "verdict"), kept)


def check(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The rows, if each has all its fields. Raises DataError naming row and field otherwise."""
    for number, row in enumerate(rows):
        where = f"row {number} of the results ({row.get('recipe', '?')}, {row.get('claim', '?')})"
        missing = [name for name in NEEDED if name not in row]
        if missing:
            raise DataError(f"{where} has no {', '.join(missing)}")
        for one in (row, row["control"]):
            if one is not None:
                _check_figure(one, where)
    return rows


def _check_figure(row: Mapping[str, Any], where: str) -> None:
    interval: Any = row.get("interval")
    if not is_list(interval) or len(interval) != 2:
        raise DataError(f"{where}: the interval must be [low, high], not {interval!r}")
    if not all(
        isinstance(value, int | float) and math.isfinite(value) for value in (row["figure"], *interval)
    ):
        raise DataError(f"{where}: the figure or its interval is no number: {row['figure']!r} {interval!r}")
    if interval[0] > interval[1]:
        raise DataError(f"{where}: the interval ends before it begins: {interval!r}")
    if row.get("verdict") not in VERDICTS:
        raise DataError(f"{where}: the verdict is {', '.join(VERDICTS)}, not {row.get('verdict')!r}")


def figure(row: Mapping[str, Any]) -> str:
    """A figure with its interval, both with a sign.

    >>> figure({"figure": -0.12, "interval": [-0.2, -0.05]})
    '-0.120 [-0.200, -0.050]'
    """
    low, high = row["interval"]
    return f"{row['figure']:+.3f} [{low:+.3f}, {high:+.3f}]"


def between(text: str, name: str, content: str) -> str:
    """The text with `content` between its markers `<!-- name -->` and `<!-- /name -->`.

    Raises DataError where the markers are not there exactly once.

    >>> between("a <!-- x -->old<!-- /x --> b", "x", "new")
    'a <!-- x -->\\nnew\\n<!-- /x --> b'
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    found = re.findall(f"{re.escape(first)}.*?{re.escape(last)}", text, re.DOTALL)
    if len(found) != 1:
        raise DataError(f"the text needs {first} and {last} once each, to have something put between them")
    return text.replace(found[0], f"{first}\n{content.strip()}\n{last}")


def _full(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"`{row['method']}`",
        str(row["claim"]),
        figure(row),
        str(row["baseline"]),
        _control(row),
        f"{row['n']:,}",
        str(row["seeds"]),
        f"**{row['verdict']}**",
        f"`{row['command']}`",
        f"{row['minutes']:.0f}",
        f"{row['date']}, {row['machine']}",
    )


def _control(row: Mapping[str, Any]) -> str:
    control = row["control"]
    return f"{figure(control)}: {control['verdict']}" if is_object(control) else "none"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return NONE_YET
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
