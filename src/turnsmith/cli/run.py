"""`turnsmith run`: carry out a recipe."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnsmith.cli.common import AsJson, Set, To, Use, changes, print_json

if TYPE_CHECKING:
    from turnsmith.recipes.start import After


def command(
    recipe: Annotated[
        str, typer.Argument(help="A recipe file, or the name of one that comes with Turnsmith.")
    ],
    set: Set = None,
    use: Use = None,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="The recipe's tiny form: minutes become seconds.")
    ] = False,
    to: To = None,
    as_json: AsJson = False,
) -> None:
    """Carry out a recipe: skips what is done, goes on with what was interrupted, writes a report."""
    carry_out(recipe, settings=changes(set), use=use, to=to, tiny=tiny, as_json=as_json)


def carry_out(
    recipe: str | Mapping[str, Any], *, as_json: bool, after: After | None = None, **given: Any
) -> None:
    """Run every arm of a recipe (arguments as of `turnsmith.run`) and say where its report is. after: what
    else is said, before that."""
    from turnsmith.recipes import start

    def tell(result: dict[str, Any], directory: Path) -> None:
        if after is not None:
            after(result, directory)
        _tell(result, directory)

    given["use"] = given.get("use") or ()
    if as_json:
        print_json(start.run(recipe, command=spoken(sys.argv[1:]), **given))
    else:
        start.run(recipe, command=spoken(sys.argv[1:]), say=_say, after=tell, **given)


def spoken(arguments: Sequence[str]) -> str:
    """The command, as it can be typed again."""
    from turnsmith.recipes.summary import program

    return shlex.join([program(), *arguments])


def _say(text: str) -> None:
    print(text, flush=True)


def _tell(result: Mapping[str, Any], directory: Path) -> None:
    for claim in result["claim"]:
        print(f"claim   {claim['text']}: {claim['verdict']}")
    for warning in result["warnings"]:
        print(f"note    {warning}")
    for line in result["varies"]:
        print(f"varies  {line}")
    print(f"report  {directory / 'report.html'}   ({result['cost']['seconds']:.0f} s of work)")
    for line in result["next"]:
        print(f"next    {line}")
