"""`turnsmith check`: what a recipe would do, before it does it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnsmith.cli.common import AsJson, Set, Use, changes, print_json
from turnsmith.recipes import components

if TYPE_CHECKING:
    from rich.text import Text

    from turnsmith.recipes.run import Runner


def command(
    recipe: Annotated[
        str, typer.Argument(help="A recipe file, or the name of one that comes with Turnsmith.")
    ],
    set: Set = None,
    use: Use = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="The recipe's tiny form.")] = False,
    as_json: AsJson = False,
) -> None:
    """Resolve a recipe, show three examples with their tokens coloured by loss weight, estimate time and
    memory."""
    from turnsmith.recipes import schema
    from turnsmith.recipes.run import Runner
    from turnsmith.recipes.summary import resolved

    file = schema.find(recipe)
    plain = schema.parse(file.read_text("utf-8"), file.name)
    for path, value in changes(set).items():
        schema.assign(plain, path, value)
    known = components(use)
    arm = schema.arms(plain, file.name, known, tiny=tiny)[0]
    runner = Runner(arm, file.stem, Path(), known, "", lambda text: None, near=file.parent)
    trains = _look(runner)
    if as_json:
        print_json({"resolved": resolved(runner), "train": trains})
        return
    print(resolved(runner))
    for train in trains:
        _tell(train)


def _look(runner: Runner) -> list[dict[str, Any]]:
    """Make the data, which is quick, and look at every train step without training."""
    from turnsmith.recipes import schema
    from turnsmith.recipes.forecast import forecast

    runner.models["base"] = [runner.reference(runner.recipe.base)]
    found: list[dict[str, Any]] = []
    for step in schema.flat(runner.recipe.steps):
        if step.data is not None:
            runner.make_data(step.data)
        elif step.train is not None and step.train.data in runner.data:
            found.append(forecast(step.train, runner))
    return found


def _tell(train: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    console.print(f"[bold]{train['name']}[/]: loss on the tokens that are marked; ↵ is a newline")
    for example in train["shown"]:
        console.print(f"\n[dim]{example['id']}[/]")
        console.print(_coloured(example["tokens"]))
    counts = (
        "; ".join(f"{count:,} {reason}" for reason, count in train["counts"].items())
        or "nothing cut or dropped"
    )
    print(f"\n{train['examples']:,} examples; {counts}")
    print(
        f"{train['tokens']:,} tokens, {train['supervised']:,} of them with loss, in {train['steps']:,} "
        f"steps; about {train['minutes']:.0f} minutes and {train['memory_gib']:.1f} GiB on this machine "
        "(estimates)"
    )


def _coloured(tokens: list[dict[str, Any]]) -> Text:
    from rich.text import Text

    text = Text()
    for token in tokens:
        style = (
            "dim"
            if token["weight"] == 0
            else "bold black on green"
            if token["weight"] >= 1
            else "black on yellow"
        )
        text.append(token["text"].replace("\n", "↵\n"), style=style)
    return text
