"""`turnsmith serve`: models behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnsmith.errors import StorageError, UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from turnsmith.serve.store.writing import Store

LOOPBACK = ("127.0.0.1", "localhost", "::1")
RATE = 120  # requests in a minute for each key, where a network may ask


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
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="Whether people are given a page to talk and judge on.")
    ] = True,
    runs: Annotated[
        Path, typer.Option(metavar="DIR", help="Where runs are that annotators and admins may watch.")
    ] = Path("runs"),
) -> None:
    """Serve models to clients of OpenAI's API: chat and text completions, whole or streamed, and
    embeddings."""
    try:
        from turnsmith.serve.app import app
        from turnsmith.serve.feedback import CRITERIA
        from turnsmith.serve.runs import Runs
        from turnsmith.serve.store.keys import known
        from turnsmith.serve.store.writing import Store
    except ImportError as error:
        raise UsageError(f"{error.name} is not there: pip install 'turnsmith[serve]'") from None
    from turnsmith import wheels
    from turnsmith.recipes import serving
    from turnsmith.recipes.browsing import Browsing

    references = _named(models or [])
    if not references and not backend:
        raise UsageError("there is nothing to serve: name a model, or a server by --backend")
    backends = [serving.backend(url) for url in backend or []]
    flagged = None if policy is None else serving.policy_in(policy)
    guards = [serving.guard(one, flagged, threshold) for one in guard or []]
    store = None if db == "none" else Store(db)
    alone, shelf = host in LOOPBACK, wheels.home() / "shelf"
    if not alone and not (store and store.read(known)):
        raise UsageError(
            f"--host {host} opens the server to a network, and nobody has a key: make one with "
            f"`turnsmith keys add NAME --role admin --db {db}`"
        )
    served = serving.opened(references, serving.Sizes(rows, waiting, capacity))
    made = app(
        served,
        backends=backends,
        guards=guards,
        store=store,
        rate=rate if rate is not None else 0 if alone else RATE,
        criteria=criterion or CRITERIA,
        alone=alone,
        page=page,
        runs=Runs(runs.expanduser().absolute(), shelf, Browsing(shelf)),
    )
    named = [*served, *(f"all of {one.endpoint.url}" for one in backends)]
    doing = f"serving {', '.join(named)}, {_kept(store)}"
    _run(made, host, port, doing, references.values(), page=page)


def _named(models: Sequence[str]) -> dict[str, str]:
    """References by the names that they are served under."""
    found: dict[str, str] = {}
    for one in models:
        name, _, reference = one.partition("=")
        if name in found:
            raise UsageError(f"two models are called {name!r}: give each its own name, as NAME=MODEL")
        found[name] = reference or name
    return found


def _kept(store: Store | None) -> str:
    return f"keeping all that is said in {store.name}" if store else "keeping nothing"


def _run(made: FastAPI, host: str, port: int, doing: str, references: Iterable[str], *, page: bool) -> None:
    """Serve, and say where once it listens; runs keep that models of theirs are asked there."""
    import uvicorn

    with _listening(host, port) as listening:
        address = listening.getsockname()
        name = f"[{address[0]}]" if ":" in address[0] else address[0]
        at = f"http://{name}:{address[1]}"
        for reference in references:
            _note(reference, f"{at}/v1")
        print(f"{doing}, on {at}/v1{f', with a page on {at}' if page else ''}", flush=True)
        uvicorn.Server(uvicorn.Config(made, log_level="warning")).run(sockets=[listening])


def _note(reference: str, address: str) -> None:
    """Keep with the run that made it that a model is served; others' runs may not be written to."""
    from turnsmith.recipes import deployed

    try:
        deployed.note(reference, "served", address)
    except StorageError as error:
        print(f"not kept with its run that {reference} is served: {error}", file=sys.stderr, flush=True)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UsageError(
            f"{host}:{port} cannot be listened on: {error.strerror}; choose another --port"
        ) from None
