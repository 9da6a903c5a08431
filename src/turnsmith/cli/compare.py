"""`turnsmith compare`: several methods on the same data, within the same budget, measured alike."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from turnsmith.cli.common import AsJson, To, Use, print_json


def command(
    methods: Annotated[
        list[str],
        typer.Argument(
            metavar="METHOD",
            help="Objectives (sft, dpo ...), trainables (lora, full ...), both as dpo+full, or recipes.",
        ),
    ],
    data: Annotated[str, typer.Option(help="A file of chats or preference pairs, or shipped data.")],
    model: Annotated[
        str, typer.Option(help="A directory, a shipped name or a hub id.")
    ] = "smollm2-135m-instruct",
    budget: Annotated[
        str, typer.Option(help="What each may spend, stages included: 10m, 90s, 2e15flops, 50000tokens.")
    ] = "10m",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each method is carried out under.")] = 1,
    halving: Annotated[
        bool,
        typer.Option("--halving", help="Begin with a quarter of the budget; keep the better half."),
    ] = False,
    by: Annotated[
        str | None, typer.Option(help="What is held out whole: id, people, source ...", show_default=False)
    ] = None,
    suite: Annotated[
        list[str] | None, typer.Option(help="A task instead of the usual ones, as YAML; may be repeated.")
    ] = None,
    fit: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of all training, e.g. batch=8; may be repeated."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Methods side by side, each in a process of its own.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Spread them over machines by Ray.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Copy the page there as well.", show_default=False)
    ] = None,
    use: Use = None,
    to: To = None,
    as_json: AsJson = False,
) -> None:
    """Compare METHODs on your data within one budget: gain, forgetting and cost, with a recommendation."""
    from turnsmith.cli.common import changes, value_of
    from turnsmith.cli.run import spoken
    from turnsmith.recipes.compare import compare

    found = compare(
        methods,
        data=data,
        model=model,
        limit=budget,
        seeds=seeds,
        halving=halving,
        by=by,
        suite=[value_of(one, f"--suite {one}") for one in suite or ()],
        fit=changes(fit),
        jobs=jobs,
        ray=ray,
        use=use or (),
        to=to,
        command=spoken(sys.argv[1:]),
        say=None if as_json else _say,
    )
    page = Path(found["report"])
    if report is not None:
        report.write_bytes(page.read_bytes())
    if as_json:
        print_json(found)
    else:
        _tell(found)
        print(f"report  {report or page}")


def _say(text: str) -> None:
    print(text, flush=True)


def _tell(found: Mapping[str, Any]) -> None:
    """Each figure with all methods below it, what they cost, and what follows."""
    from turnsmith.recipes import telling

    names = [str(method["name"]) for method in found["methods"]]
    wide = max(map(len, names))
    for task in found["tasks"]:
        print(f"\n{task['name']}, {task['unit']}; {task['better']} is better")
        for name, row in task["methods"].items():
            print(f"  {name:<{wide}}  {telling.changed(row)}")
    print(f"\nspent, of {found['budget']['text']} for each, in the mean over seeds")
    for method in found["methods"]:
        spent, drop = method["spent"], f"  dropped after {method['dropped']}" if method["dropped"] else ""
        print(
            f"  {method['name']:<{wide}}  {spent['seconds']:,.0f} s, {spent['tokens']:,.0f} tokens, "
            f"{spent['flops']:.2g} FLOPs, {method['peak_memory_gib']:.1f} GiB, "
            f"{method['energy_wh']:.2g} Wh (estimate){drop}"
        )
    for name, reason in found["failed"].items():
        print(f"left out  {name}: {reason}")
    for line in found["varies"]:
        print(f"varies  {line}")
    print()
    for line in found["advice"]:
        print(f"advice  {line}")
