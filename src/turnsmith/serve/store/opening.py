"""A database by its URL: opened, brought to the newest tables, and its failures told in plain words."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from turnsmith.errors import StorageError, UsageError

USUAL = "turnsmith.db"  # in the folder where the command is given
BUSY = 10.0  # seconds that SQLite waits for another process to finish writing
MIGRATIONS = Path(__file__).parent / "migrations"
# Of SQLite: busy, locked, no permission, read-only, input or output, full, cannot open.
PASSING = frozenset((5, 6, 3, 8, 10, 13, 14))


def located(given: str) -> URL:
    """The URL that was meant: a path is one of SQLite, and PostgreSQL is spoken to by psycopg.

    >>> located("talks.db").render_as_string(), located("postgresql://me@host/talks").drivername
    ('sqlite:///talks.db', 'postgresql+psycopg')
    """
    if "://" not in given:
        return URL.create("sqlite", database=given)
    try:
        url = make_url(given)
    except ArgumentError:
        raise UsageError(
            f"--db {given}: give a path, sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise UsageError(f"--db {shown(url)}: SQLite and PostgreSQL are spoken to, and nothing else")
    return url


def shown(url: URL) -> str:
    """The URL without its password."""
    return url.render_as_string(hide_password=True)


def opened(given: str) -> Engine:
    """The database, with all its tables. Raises UsageError for a URL that cannot be meant, StorageError where
    the database does not answer."""
    url = located(given)
    try:
        engine = create_engine(url, pool_pre_ping=True, **_beside(url))
    except (ImportError, NoSuchModuleError):
        raise UsageError("PostgreSQL is spoken to by psycopg: pip install 'turnsmith[postgresql]'") from None
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _sqlite)
        event.listen(engine, "begin", _begin)
    with telling(url):
        _migrated(engine)
    return engine


def _beside(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY}}
    return {"connect_args": {"connect_timeout": 5}, "pool_size": 5}


def _sqlite(connection: Any, _: Any) -> None:
    """Who reads does not wait for who writes; what is committed outlives a kill; what is deleted is
    overwritten."""
    connection.isolation_level = None  # `_begin` says when a transaction starts, that of a reader too
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """Who writes takes the lock at once: who has read and then wants to write cannot wait for another."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrated(engine: Engine) -> None:
    """Bring the tables to the newest form."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.execution_options(writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":  # two servers that start at once: one after the other
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7483)")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def telling(url: URL) -> Generator[None]:
    """Turns what a driver says into a StorageError that names the database and the way out."""
    try:
        yield
    except DBAPIError as error:
        if not is_away(error):
            raise
        raise StorageError(f"the database {shown(url)} does not answer: {reason(error)}") from None


def is_away(error: DBAPIError) -> bool:
    """Whether the database cannot be reached or written now, so that the same may go well later."""
    if error.connection_invalidated:
        return True
    code: int | None = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return (code & 255) in PASSING
    return isinstance(error, OperationalError)


def reason(error: DBAPIError) -> str:
    """What the driver says, in one line."""
    return " ".join(str(error.orig).split())[:200]
