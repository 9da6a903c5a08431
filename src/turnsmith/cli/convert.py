"""`turnsmith data convert`: data in another format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from turnsmith.cli.common import AsJson, BadRows, BadRowsTo, DataFile, Format, Use, print_json, visible


def command(
    file: DataFile,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A .jsonl, .json, .csv, .tsv (or .gz) or .parquet file.")
    ],
    to: Annotated[
        str, typer.Option(help="The format to write; otherwise messages, prompt, pairs or kto, as they are.")
    ] = "auto",
    format: Format = "auto",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    bad_rows: BadRows = "stop",
    bad_rows_to: BadRowsTo = None,
    use: Use = None,
    as_json: AsJson = False,
) -> None:
    """Write data in another format; say what was read and why so, what was written, and what was lost.

    What the format cannot say is lost, and counted by kind. A row that it has no place for is an error.
    """
    from turnsmith.recipes.converting import convert

    found = convert(
        file,
        out,
        to=to,
        format=format,
        bad_rows=bad_rows,
        bad_rows_to=bad_rows_to,
        use=use or (),
        force=force,
    )
    if as_json:
        print_json(found)
        return
    for line in _lines(found):
        print(visible(line))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"read        {found['rows']:,} rows of {found['format']}: {found['why']}"
    for reason, count in found["skipped"].items():
        yield f"            {count:,} skipped: {reason}"
    for reason, count in found["bad_rows"].items():
        yield f"            {count:,} {reason}"
    if found["bad_rows_in"]:
        yield f"            bad rows: {found['bad_rows_in']}"
    yield f"wrote       {found['written']:,} rows of {found['to']}: {found['out']}"
    if found["note"]:
        yield f"            {found['note']}"
    for reason, count in found["lost"].items():
        yield f"lost in     {count:,} of them: {reason}"
    if not found["lost"]:
        yield f"lost        nothing: {found['to']} can say it all"
