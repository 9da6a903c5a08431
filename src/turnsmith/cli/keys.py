"""`turnsmith keys`: who may ask a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from turnsmith.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from turnsmith.serve.store.writing import Store

Given = TypeVar("Given")
Database = Annotated[str, typer.Option(metavar="PATH|URL", help="The store of the server.")]
app = typer.Typer(no_args_is_help=True, help="Make, list and end the keys that requests to a server carry.")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    role: Annotated[
        str, typer.Option(help="user: talks; annotator: judges what all said too; admin: may do everything.")
    ] = "user",
    db: Database = "turnsmith.db",
) -> None:
    """Make a key. It is shown this once: only a digest is kept."""
    from turnsmith.serve.store import keys

    print(_written(db, lambda session: keys.made(session, name, role)))


@app.command()
def end(name: Annotated[str, typer.Argument(help="Whose key it is.")], db: Database = "turnsmith.db") -> None:
    """Let a key open nothing any more, within some seconds also on servers that run."""
    from turnsmith.serve.store import keys

    _written(db, lambda session: keys.ended(session, name))


@app.command(name="list")
def list_(db: Database = "turnsmith.db") -> None:
    """The names and roles of all keys that open something."""
    from turnsmith.serve.store import keys

    for known in _written(db, keys.known).values():
        print(f"{known.name}\t{known.role}")


def _written(db: str, work: Callable[[Session], Given]) -> Given:
    store = opened(db)
    try:
        return store.write(work).result()
    finally:
        store.close()


def opened(db: str) -> Store:
    """The store of a server."""
    try:
        from turnsmith.serve.store.writing import Store
    except ImportError as error:
        raise UsageError(f"{error.name} is not there: pip install 'turnsmith[serve]'") from None
    return Store(db)
