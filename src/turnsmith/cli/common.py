"""What several verbs share: options of the same meaning, and how their texts are read."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from turnsmith.data import quarantine
from turnsmith.errors import UsageError
from turnsmith.types import IMAGE

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")
]
Use = Annotated[
    list[Path] | None,
    typer.Option("--use", metavar="FILE.py", help="Components of your own; may be repeated."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change the recipe, e.g. steps.1.train.fit.lr=1e-4."),
]
BadRows = Annotated[
    quarantine.BadRows,
    typer.Option(
        help="At a row that cannot be used: stop, or set it aside in a file with the reason and go on."
    ),
]
BadRowsTo = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where rows that are set aside go.", show_default=False),
]
DataFile = Annotated[
    str, typer.Argument(metavar="FILE", help="A data file or folder, or shipped data such as chitchat.")
]
Format = Annotated[str, typer.Option(help="Say which format it has instead of letting it be guessed.")]
To = Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Where report and results go.")]


def changes(settings: Sequence[str] | None) -> dict[str, Any]:
    """`PATH=VALUE` texts; values are YAML."""
    found: dict[str, Any] = {}
    for text in settings or ():
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise UsageError(f"--set {text}: write it as PATH=VALUE, e.g. steps.1.train.fit.lr=1e-4")
        found[path.strip()] = value_of(value, f"--set {text}")
    return found


def value_of(text: str, where: str) -> Any:
    """What a YAML text says. Raises UsageError, naming `where` it stands."""
    import yaml

    from turnsmith.recipes import yaml12

    try:
        return yaml12.load(text)
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise UsageError(f"{where} is no YAML: {told}") from None


def visible(text: str) -> str:
    """The text with control characters as pictures of themselves, so that data cannot steer the terminal, and
    `[image]` where an image stands.

    >>> visible("a\\x1b[2Jb")
    'a\u241b[2Jb'
    """
    shown = CONTROL.sub(lambda found: chr(0x2400 + ord(found[0])) if ord(found[0]) < 0x20 else "\ufffd", text)
    return shown.replace(IMAGE, "[image]")


def print_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """The only thing that `--json` puts on stdout."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=1, default=str)
    sys.stdout.write("\n")
