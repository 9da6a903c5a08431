"""`turnsmith serve`: models behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Annotated

import typer

from turnsmith.errors import UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from turnsmith.serve.store.writing import Store

LOOPBACK = ("127.0.0.1", "localhost", "::1")
RATE = 120  # requests in a minute for each key, where a network may ask


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
    db: Annotated[
        str,
        typer.Option(metavar="PATH|URL|none", help="Where all that is said is kept: SQLite or PostgreSQL."),
    ] = "turnsmith.db",
    rate: Annotated[
        int | None,
        typer.Option(help="Requests in a minute for each key; 0 is no limit, as on this machine alone."),
    ] = None,
    criterion: Annotated[
        list[str] | None, typer.Option(help="What replies are rated on from 1 to 5; may be given again.")
    ] = None,
) -> None:
    """Serve models to clients of OpenAI's API: chat and text completions, streamed or whole."""
    try:
        from turnsmith.serve.app import app
        from turnsmith.serve.feedback import CRITERIA
        from turnsmith.serve.served import Served
        from turnsmith.serve.store.keys import known
        from turnsmith.serve.store.writing import Store
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
        batching = Batching(made.engine, rows=rows, capacity=held, waiting=waiting)
        served[name] = Served(name, made, batching, int(time.time()), *_prints(reference or name))
    store = None if db == "none" else Store(db)
    alone = host in LOOPBACK
    if not alone and not (store and store.read(known)):
        raise UsageError(
            f"--host {host} opens the server to a network, and nobody has a key: make one with "
            f"`turnsmith keys add NAME --role admin --db {db}`"
        )
    made = app(
        served,
        store=store,
        rate=rate if rate is not None else 0 if alone else RATE,
        criteria=criterion or CRITERIA,
        alone=alone,
    )
    _run(made, host, port, f"serving {', '.join(served)}, {_kept(store)}")


def _prints(reference: str) -> tuple[str, str | None]:
    """Fingerprints of the base, and of what was tuned upon it and is kept apart."""
    from turnsmith.models.load import fingerprint
    from turnsmith.models.locate import foundation, locate

    base = foundation(reference)
    return fingerprint(str(base)), None if base == locate(reference) else fingerprint(reference)


def _kept(store: Store | None) -> str:
    return f"keeping all that is said in {store.name}" if store else "keeping nothing"


def _run(made: FastAPI, host: str, port: int, doing: str) -> None:
    """Serve, and say where once it listens."""
    import uvicorn

    with _listening(host, port) as listening:
        address = listening.getsockname()
        name = f"[{address[0]}]" if ":" in address[0] else address[0]
        print(f"{doing}, on http://{name}:{address[1]}/v1", flush=True)
        uvicorn.Server(uvicorn.Config(made, log_level="warning")).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UsageError(
            f"{host}:{port} cannot be listened on: {error.strerror}; choose another --port"
        ) from None
