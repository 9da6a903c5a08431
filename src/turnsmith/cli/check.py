"""`turnsmith check`: what a recipe would do, before it does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnsmith.cli.common import AsJson, Set, Use, changes, print_json

if TYPE_CHECKING:
    from rich.text import Text


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
    from turnsmith.recipes.checking import check

    found = check(recipe, settings=changes(set), use=use or (), tiny=tiny)
    if as_json:
        print_json(found)
        return
    print(found["resolved"])
    for train in found["train"]:
        if "waits" in train:
            print(f"\n{train['name']}: {train['waits']}")
        else:
            _tell(train)


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
