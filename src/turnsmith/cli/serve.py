"""`turnsmith serve`: models behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from turnsmith.errors import UsageError


def command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME[=MODEL]...", help="Models, each under a name of its own; also NAME=URL#MODEL."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; others than 127.0.0.1 open it to a network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8000,
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A server of OpenAI's API all of whose models are served too."),
    ] = None,
    guard: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=MODEL]",
            help="A scorer, such as `guard`, that judges what is asked and answered, and its model.",
        ),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="What a guard flags: a YAML file of {Category: description}.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="From which number of a guard on it flags.")] = 0.5,
    rows: Annotated[int, typer.Option(help="Replies of a model that are drawn at once.")] = 16,
    waiting: Annotated[int, typer.Option(help="Requests that may wait for a row; more get 429.")] = 64,
    capacity: Annotated[int, typer.Option(help="Most tokens of prompt and reply together.")] = 4096,
) -> None:
    """Serve models to clients of OpenAI's API: chat and text completions, whole or streamed, and
    embeddings."""
    try:
        import uvicorn

        from turnsmith.serve.app import app
    except ImportError as error:
        raise UsageError(f"{error.name} is not there: pip install 'turnsmith[serve]'") from None
    from turnsmith.recipes import serving

    references = _named(models or [])
    if not references and not backend:
        raise UsageError("there is nothing to serve: name a model, or a server by --backend")
    backends = [serving.backend(url) for url in backend or []]
    flagged = None if policy is None else serving.policy_in(policy)
    guards = [serving.guard(one, flagged, threshold) for one in guard or []]
    served = serving.opened(references, serving.Sizes(rows, waiting, capacity))
    named = [*served, *(f"all of {one.endpoint.url}" for one in backends)]
    print(f"serving {', '.join(named)} on http://{host}:{port}/v1", flush=True)
    uvicorn.run(app(served, backends=backends, guards=guards), host=host, port=port, log_level="warning")


def _named(models: Sequence[str]) -> dict[str, str]:
    """References by the names that they are served under."""
    found: dict[str, str] = {}
    for one in models:
        name, _, reference = one.partition("=")
        if name in found:
            raise UsageError(f"two models are called {name!r}: give each its own name, as NAME=MODEL")
        found[name] = reference or name
    return found
