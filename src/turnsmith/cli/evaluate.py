"""`turnsmith evaluate`: measure a model, against another one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    from turnsmith.recipes.schema import FORGETTING

    with_data = ["heldout", "replies"] if data else []
    tasks = list(suite) if suite else [*with_data, *FORGETTING]
    steps: list[dict[str, Any]] = []
    if data:
        steps.append(
            {"data": {"name": "data", "read": str(Path(data).resolve()) if Path(data).exists() else data}}
        )
    named: list[Any] = [{task: {"on": "data"}} if task in ("heldout", "replies") else task for task in tasks]
    steps.append({"evaluate": {"model": model, "suite": named}})
    plain = {"title": f"{model} against {against}", "base": against, "steps": steps}
    carry_out(plain, name=f"evaluate-{Path(model).name}", use=use, to=to, as_json=as_json)
