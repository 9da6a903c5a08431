"""`turnsmith check`: what a recipe would do, before it does it; and whether what a run did still holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnsmith.cli.common import AsJson, Set, Use, changes, print_json
from turnsmith.errors import UsageError

if TYPE_CHECKING:
    from rich.text import Text

LEARNT, READ = "\u27ea", "\u27eb"  # double angle brackets, where there are no colours


def command(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe file, the name of one that comes with Turnsmith, or a finished run's directory."
        ),
    ],
    set: Set = None,
    use: Use = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="The recipe's tiny form.")] = False,
    as_json: AsJson = False,
) -> None:
    """Resolve a recipe, show three examples with their tokens coloured by loss weight, estimate time and
    memory. Of a finished run: check its seven stages, from data to monitoring; leaves with 1 where one
    fails."""
    if _is_run(recipe):
        if set or use or tiny:
            raise UsageError(
                f"{recipe} is a finished run, which is looked at as it is: give the recipe instead"
            )
        _look_at_run(Path(recipe), as_json=as_json)
        return
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


def _is_run(name: str) -> bool:
    """Whether a directory is meant; the name of a recipe that comes with Turnsmith means that, unless a run
    lies under it."""
    from turnsmith.recipes import FOLDER
    from turnsmith.recipes.keeping import RUN

    path = Path(name)
    return path.is_dir() and ((path / RUN).is_file() or not (FOLDER / f"{name}.yaml").is_file())


def _look_at_run(directory: Path, *, as_json: bool) -> None:
    """Say of each stage of a run whether it holds; leaves with 1 where one does not."""
    from turnsmith.recipes.audit import audit

    found = audit(directory)
    if as_json:
        print_json(found)
    else:
        for stage in found["stages"]:
            print(f"{stage['number']}  {stage['name']:<22}{stage['state']}")
            for check in stage["checks"]:
                print(_checked(check))
    if found["state"] == "fail":
        raise typer.Exit(1)


def _checked(check: dict[str, Any]) -> str:
    mark = {True: "holds", False: "FAILS", None: "note"}[check["passed"]]
    said = f": {check['said']}" if check["said"] else ""
    return f"     {mark:<7}{check['what']}{said}"


def _tell(train: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    colours = console.color_system is not None
    how = "are marked" if colours else f"stand between {LEARNT} and {READ}"
    console.print(f"{train['name']}: loss on the tokens that {how}; ↵ is a newline", style="bold")
    for example in train["shown"]:
        console.print(f"\n{example['id']}", style="dim")
        if colours:
            console.print(_coloured(example["tokens"]))
        else:
            print(_bracketed(example["tokens"]))
    counts = (
        "; ".join(f"{count:,} {reason}" for reason, count in train["counts"].items())
        or "nothing cut or dropped"
    )
    print(f"\n{train['examples']:,} examples; {counts}")
    print(
        f"{train['tokens']:,} tokens, {train['supervised']:,} of them with loss, in {train['steps']:,} "
        f"steps; about {train['minutes']:.0f} minutes{_memory(train)} on this machine (estimates)"
    )
    if train["memory_said"]:
        print(train["memory_said"])


def _memory(train: dict[str, Any]) -> str:
    return "" if train["memory_gib"] is None else f" and {train['memory_gib']:.1f} GiB"


def _bracketed(tokens: list[dict[str, Any]]) -> str:
    """The tokens as plain text, with a bracket where the weight changes; a weight that is not 1 is said."""
    found: list[str] = []
    before = 0.0
    for token in tokens:
        weight = token["weight"]
        if weight != before:
            found += [READ] if before else []
            found += [LEARNT if weight == 1 else f"{LEARNT}{weight:g}: "] if weight else []
        found.append(token["text"].replace("\n", "↵\n"))
        before = weight
    return "".join([*found, READ] if before else found)


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
