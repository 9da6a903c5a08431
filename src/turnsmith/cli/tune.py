"""`turnsmith tune`: a model and data, everything else chosen and explained."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from turnsmith.cli.common import AsJson, BadRows, Set, To, Use, changes


def command(
    model: Annotated[
        str, typer.Argument(help="A directory, a shipped name, a hub id, or an adapter to go on with.")
    ],
    data: Annotated[
        str, typer.Argument(help="A file of chats, completions or preference pairs, or shipped data.")
    ],
    objective: Annotated[str | None, typer.Option(help="sft, dpo ...; by the data where not given.")] = None,
    trainable: Annotated[str, typer.Option(help="lora, full, layers, biases ...")] = "lora",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    length: Annotated[int | None, typer.Option(help="Most tokens of one conversation.")] = None,
    name: Annotated[str, typer.Option(help="What the result is called.")] = "tuned",
    bad_rows: BadRows = "stop",
    set: Set = None,
    use: Use = None,
    to: To = None,
    dry: Annotated[bool, typer.Option("--dry", help="Print the recipe and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tune MODEL on DATA: settings are chosen by size, printed with their reasons, and run as a recipe."""
    from turnsmith.cli.run import carry_out
    from turnsmith.recipes import tuning, yaml12

    plan = tuning.plan(
        model,
        data,
        objective=objective,
        trainable=trainable,
        steps=steps,
        lr=lr,
        length=length,
        name=name,
        bad_rows=bad_rows,
        settings=changes(set),
        use=use or (),
    )
    out = sys.stderr if as_json else sys.stdout
    for choice in plan.choices:
        print(f"chosen  {choice}", file=out)
    print(yaml12.dump(plan.recipe), file=out)
    if not dry:
        carry_out(plan.recipe, name=plan.name, use=use, to=to, as_json=as_json)
