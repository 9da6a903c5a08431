"""`turnsmith tune`: a model and data, everything else chosen and explained."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from turnsmith.cli.common import AsJson, Set, To, Use, changes
from turnsmith.errors import UsageError
from turnsmith.recipes import components


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
    set: Set = None,
    use: Use = None,
    to: To = None,
    dry: Annotated[bool, typer.Option("--dry", help="Print the recipe and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tune MODEL on DATA: settings are chosen by size, printed with their reasons, and run as a recipe."""
    from turnsmith.cli.run import carry_out
    from turnsmith.models import load
    from turnsmith.recipes import schema, tuning, yaml12

    known = components(use)
    given = {
        key: value for key, value in (("steps", steps), ("lr", lr), ("length", length)) if value is not None
    }
    parts, count = _look(data, known)
    chosen = objective or ("dpo" if "chosen" in parts else "sft")
    choices = tuning.choose(
        parameters=load.parameters(model),
        examples=max(1, round(0.9 * count)),
        objective=chosen,
        trainable=trainable,
        rank=_rank(model),
    )
    path = Path(data)
    read = str(path.resolve()) if path.exists() else data
    plain = tuning.recipe(
        model, read, name=name, objective=chosen, trainable=trainable, choices=choices, overrides=given
    )
    for key, value in changes(set).items():
        schema.assign(plain, key, value)
    out = sys.stderr if as_json else sys.stdout
    for choice in choices:
        if choice.name.removeprefix("fit.") not in given:
            print(f"chosen  {choice.name} = {choice.value}: {choice.reason}", file=out)
    print(yaml12.dump(plain), file=out)
    schema.arms(plain, "tune", known)
    if not dry:
        carry_out(plain, name=f"{name}-on-{path.stem}", use=use, to=to, as_json=as_json)


def _look(data: str, known: Any) -> tuple[set[str], int]:
    """The parts that the examples have, and how many there are. Everything is read, so that bad rows show
    now."""
    from turnsmith.data import formats, read

    path = read.locate(data)
    rows = list(read.rows(path))
    name = formats.guess([row for _, row in rows[:1000]], known.entries("format"))
    examples, _ = formats.examples(rows, name, known, str(path))
    if not examples:
        raise UsageError(f"{data}: not one usable example")
    return set(examples[0].parts), len(examples)


def _rank(model: str) -> int | None:
    """The rank of the adapter that `model` is, if it is one."""
    config = Path(model) / "adapter_config.json"
    if not config.is_file():
        return None
    rank = json.loads(config.read_text("utf-8")).get("r")
    return int(rank) if rank else None
