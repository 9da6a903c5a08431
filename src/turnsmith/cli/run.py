"""`turnsmith run`: carry out a recipe."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnsmith.cli.common import AsJson, Set, To, Use, changes, print_json, registry
from turnsmith.registry import Registry

if TYPE_CHECKING:
    from turnsmith.recipes.run import Say


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
    from turnsmith.recipes import schema

    file = schema.find(recipe)
    plain = schema.parse(file.read_text("utf-8"), file.name)
    for path, value in changes(set).items():
        schema.assign(plain, path, value)
    carry_out(plain, file.stem, registry(use), to=to, tiny=tiny, as_json=as_json, near=file.parent)


def carry_out(
    plain: Mapping[str, Any],
    name: str,
    components: Registry,
    *,
    to: Path | None,
    tiny: bool,
    as_json: bool,
    near: Path | None = None,
) -> None:
    """Run every arm of a recipe and say where its report is."""
    from turnsmith.recipes import schema
    from turnsmith.recipes.run import Runner

    arms = schema.arms(plain, name, components, tiny=tiny)
    results: list[dict[str, Any]] = []
    for arm in arms:
        directory = (to or Path("runs") / (f"{name}-tiny" if tiny else name)) / arm.name
        runner = Runner(
            arm,
            name,
            directory,
            components,
            spoken(sys.argv[1:]),
            _say(as_json),
            quiet=as_json,
            tiny=tiny,
            near=near,
        )
        results.append(runner.run())
        if not as_json:
            _tell(results[-1], directory)
    if as_json:
        print_json(results)


def spoken(arguments: Sequence[str]) -> str:
    """The command as it was typed."""
    return shlex.join(["turnsmith", *arguments])


def _say(as_json: bool) -> Say:
    def say(text: str) -> None:
        print(text, file=sys.stderr if as_json else sys.stdout, flush=not as_json)

    return say


def _tell(result: Mapping[str, Any], directory: Path) -> None:
    for claim in result["claim"]:
        print(f"claim   {claim['text']}: {claim['verdict']}")
    for warning in result["warnings"]:
        print(f"note    {warning}")
    print(f"report  {directory / 'report.html'}   ({result['cost']['seconds']:.0f} s of work)")
    for line in result["next"]:
        print(f"next    {line}")
