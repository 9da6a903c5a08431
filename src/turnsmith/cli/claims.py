"""`turnsmith claims`: judge what recipes claim, over several seeds and against a control."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from turnsmith.cli.common import AsJson, Use, print_json


def command(
    recipe: Annotated[
        list[str] | None, typer.Argument(help="Recipes; all that come with Turnsmith where none is named.")
    ] = None,
    use: Use = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="Run the tiny forms, which are never judged.")] = False,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the runs' reports go.")] = Path(
        "runs/claims"
    ),
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE.json", help="Put the rows into this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run each recipe's seeds and its control, and judge its claim; goes on where it was interrupted."""
    from turnsmith.recipes import claims

    rows: list[dict[str, Any]] = []
    for name in recipe or claims.shipped():
        found = claims.claims(name, use=use or (), to=to, say=None if as_json else _say, tiny=tiny)
        rows += found
        if record is not None:
            claims.record(record, found)
        if not as_json:
            print("\n".join(_line(row) for row in found))
    if as_json:
        print_json(rows)


def _line(row: dict[str, Any]) -> str:
    """One statement in words; what was not measured has no figure."""
    said = f"claim   {row['claim']}: {row['verdict']}"
    if row["figure"] is None:
        return said
    low, high = row["interval"]
    figure = f"{row['figure']:+.3f} [{low:+.3f}, {high:+.3f}], {row['seeds']} seeds, n={row['n']}"
    control: dict[str, Any] = row["control"] or {}
    without = f"; without the method {control['figure']:+.3f}" if control.get("figure") is not None else ""
    return f"{said}   {figure}{without}"


def _say(text: str) -> None:
    print(text, flush=True)
