"""`turnsmith serve`: models behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from turnsmith.errors import UsageError


def command(
    models: Annotated[
        list[str], typer.Argument(metavar="NAME[=MODEL]...", help="Models, each under a name of its own.")
    ],
    host: Annotated[
        str, typer.Option(help="The address to listen on; others than 127.0.0.1 open it to a network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8000,
    rows: Annotated[int, typer.Option(help="Replies of a model that are drawn at once.")] = 16,
    waiting: Annotated[int, typer.Option(help="Requests that may wait for a row; more get 429.")] = 64,
    capacity: Annotated[int, typer.Option(help="Most tokens of prompt and reply together.")] = 4096,
) -> None:
    """Serve models to clients of OpenAI's API: chat and text completions, streamed or whole."""
    try:
        import uvicorn

        from turnsmith.serve.app import app
        from turnsmith.serve.served import Served
    except ImportError as error:
        raise UsageError(f"{error.name} is not there: pip install 'turnsmith[serve]'") from None
    from turnsmith.recipes.talking import chat
    from turnsmith.sample.chat import LocalChat
    from turnsmith.sample.engine import LocalEngine
    from turnsmith.serve.batching import Batching

    served: dict[str, Served] = {}
    for one in models:
        name, _, reference = one.partition("=")
        if name in served:
            raise UsageError(f"two models are called {name!r}: give each its own name, as NAME=MODEL")
        made = chat(reference or name)
        if not isinstance(made, LocalChat) or not isinstance(made.engine, LocalEngine):
            raise UsageError(
                f"{reference or name} is not drawn from here: only models that are loaded can be served"
            )
        held = min(capacity, made.engine.context or capacity)
        served[name] = Served(
            name, made, Batching(made.engine, rows=rows, capacity=held, waiting=waiting), int(time.time())
        )
    print(f"serving {', '.join(served)} on http://{host}:{port}/v1", flush=True)
    uvicorn.run(app(served), host=host, port=port, log_level="warning")
