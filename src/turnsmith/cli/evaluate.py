"""`turnsmith evaluate`: measure models, alone or against another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from turnsmith.cli.common import AsJson, To, Use, visible
from turnsmith.errors import UsageError


def command(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="Directories, shipped names, hub ids, endpoints: URL#NAME."),
    ],
    suite: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help="A task as a recipe has it, such as abilities or 'choice: {file: arc.jsonl, count: 100}'; "
            "may be repeated. All general ones if absent.",
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="OTHER", help="A model to compare each of them with.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Conversations, for held-out loss, replies and the like."),
    ] = None,
    max_failed: Annotated[float, typer.Option(help="Share of items that may go unanswered.")] = 0.05,
    use: Use = None,
    to: To = None,
    as_json: AsJson = False,
) -> None:
    """Measure each MODEL, against OTHER item by item where it is given, with intervals and a report."""
    from turnsmith.cli.run import carry_out
    from turnsmith.recipes.start import comparison

    tasks = [_task(text) for text in suite or ()]
    plain, name = comparison(
        models, against=against, suite=tasks, data=data, max_failed=max_failed, use=use or ()
    )
    carry_out(plain, name=name, use=use, to=to, as_json=as_json, after=_show)


def _task(text: str) -> str | dict[str, Any]:
    """A task as a recipe spells it, which is YAML.

    >>> _task("abilities"), _task("choice: {file: a.jsonl}")
    ('abilities', {'choice': {'file': 'a.jsonl'}})
    """
    import yaml

    from turnsmith.recipes import yaml12
    from turnsmith.types import is_object

    try:
        found = yaml12.load(text)
    except yaml.YAMLError:
        found = None
    if isinstance(found, str) and found.isidentifier():
        return found
    if is_object(found) and len(found) == 1:
        return found
    raise UsageError(
        f"--suite {text}: write a task as a recipe does, its name or 'NAME: {{OPTION: VALUE, ...}}', such as "
        "'choice: {file: arc.jsonl, count: 100}'"
    )


def _show(result: Mapping[str, Any], directory: Path) -> None:
    """All figures in one table: a row for each, a column for each model."""
    measured: Sequence[Mapping[str, Any]] = [one for one in result["steps"] if one["verb"] == "evaluate"]
    against = measured[0]["against"]
    names = [*([result["base"]["reference"]] if against else []), *(one["model"] for one in measured)]
    table = [["", *(Path(name).name for name in names)]]
    for place, task in enumerate(measured[0]["tasks"]):
        if task["metrics"]:
            table.append([visible(task["title"])])
        for number, metric in enumerate(task["metrics"]):
            others = [one["tasks"][place]["metrics"][number] for one in measured]
            before = [f"{metric['before']:.3f}"] if against else []
            table.append([f"  {metric['name']} ({metric['unit']})", *before, *map(_cell, others)])
    full = [row for row in table if len(row) > 1]  # titles run over the columns
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())


def _cell(metric: Mapping[str, Any]) -> str:
    """A figure with the interval of itself, or of its difference."""
    if metric["difference"] is None:
        return f"{metric['after']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]"
    change = f"{metric['difference']:+.3f} [{metric['low']:+.3f}, {metric['high']:+.3f}]"
    return f"{metric['after']:.3f}  {change} {metric['verdict']}"
