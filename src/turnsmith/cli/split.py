"""`turnsmith data split`: a file into several, so that what belongs together stays together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turnsmith.cli.common import AsJson, BadRows, DataFile, Format, Use, print_json
from turnsmith.errors import UsageError


def command(
    file: DataFile,
    into: Annotated[str, typer.Option(metavar="NAME=SHARE,...", help="E.g. train=0.9,test=0.1.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where NAME.jsonl are written.")],
    by: Annotated[
        str, typer.Option(help="What is held out: id, people, source, or any other column.")
    ] = "id",
    seed: Annotated[int, typer.Option(help="Same seed, same split.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    format: Format = "auto",
    bad_rows: BadRows = "stop",
    use: Use = None,
    as_json: AsJson = False,
) -> None:
    """Divide a data file by conversation, person, source or any column into files of Turnsmith's own rows."""
    from turnsmith.recipes.showing import divide

    made = divide(
        file,
        _shares(into),
        out,
        by=by,
        seed=seed,
        force=force,
        format=format,
        bad_rows=bad_rows,
        use=use or (),
    )
    if as_json:
        print_json(made)
        return
    for name, split in made["splits"].items():
        counted = f"{split['examples']:,} examples with {split['values']:,} values of {by}"
        print(f"{name:<12}{counted}  {split['file']}")
    for reason, count in made["counts"].items():
        print(f"            {count:,} {reason}")
    if made["bad_rows_in"]:
        print(f"            bad rows: {made['bad_rows_in']}")


def _shares(text: str) -> dict[str, float]:
    """`train=0.9,test=0.1`."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = part.strip().partition("=")
        try:
            number = float(share)
        except ValueError:
            number = 0.0
        if not name or not equals or number <= 0 or name in found or Path(name).name != name:
            raise UsageError(f"--into {text}: write it as NAME=SHARE,..., e.g. train=0.9,test=0.1")
        found[name] = number
    return found
