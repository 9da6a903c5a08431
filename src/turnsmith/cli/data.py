"""`turnsmith data`: what is in a file."""

from __future__ import annotations

from typing import Annotated

import typer

from turnsmith.cli.common import AsJson, Use, print_json
from turnsmith.types import is_object


def command(
    file: Annotated[str, typer.Argument(help="A data file, or shipped data such as chitchat.")],
    format: Annotated[
        str, typer.Option(help="Say which format it has instead of letting it be guessed.")
    ] = "auto",
    use: Use = None,
    as_json: AsJson = False,
) -> None:
    """Say what a data file holds: format, counts, roles, lengths, duplicates, and one example."""
    from turnsmith.recipes.describing import describe

    found = describe(file, format=format, use=use or ())
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        if key == "first":
            continue
        text = ", ".join(f"{k} {v:,}" for k, v in value.items()) if is_object(value) else value
        print(f"{key:<12}{text}")
    for part, messages in found.get("first", {}).items():
        print(f"\nfirst example, {part}:")
        for message in messages[:6]:
            print(f"  {message['role']}: {message['content'][:200]}")
