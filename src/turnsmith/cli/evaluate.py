"""`turnsmith evaluate`: measure a model, against another one."""

from __future__ import annotations

from typing import Annotated

import typer

from turnsmith.cli.common import AsJson, To, Use


def command(
    model: Annotated[str, typer.Argument(help="A directory, a shipped name or a hub id.")],
    against: Annotated[str, typer.Option(help="The model to compare with.")],
    suite: Annotated[
        list[str] | None, typer.Option(help="A task; may be repeated. All general ones if absent.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Conversations for held-out loss and replies.")] = None,
    use: Use = None,
    to: To = None,
    as_json: AsJson = False,
) -> None:
    """Measure MODEL against another one, item by item, with paired intervals and a report."""
    from turnsmith.cli.run import carry_out
    from turnsmith.recipes.start import comparison

    plain, name = comparison(model, against=against, suite=suite or (), data=data)
    carry_out(plain, name=name, use=use, to=to, as_json=as_json)
