"""Databases for the tests: SQLite in a file, and PostgreSQL in a server of its own, started here."""

import os
import shutil
import subprocess
from itertools import count
from pathlib import Path

import pytest

from turnsmith.serve.store.writing import Store

ABSENT = "needs PostgreSQL: apt-get install postgresql"
number = count()


def _program(name):
    """Where one of PostgreSQL's programs is; Debian keeps the server's beside its libraries."""
    places = [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.environ["PATH"].split(os.pathsep))]
    found = [place / name for place in sorted(places, reverse=True) if (place / name).is_file()]
    return str(found[0]) if found else None


class Server:
    """PostgreSQL with its data in `place`, on a socket there, run by a user who is not root."""

    def __init__(self, place):
        self.place, self.programs = place, {name: _program(name) for name in ("initdb", "pg_ctl")}
        place.mkdir()
        if os.geteuid() == 0:
            shutil.chown(place, "postgres")
            for above in place.parents[:4]:
                above.chmod(above.stat().st_mode | 0o011)
        self.run("initdb", "-D", place / "data", "-A", "trust", "-U", "tests", "-N")
        with (place / "data" / "postgresql.conf").open("a") as opened:
            opened.write(f"listen_addresses = ''\nunix_socket_directories = '{place}'\nfsync = off\n")
        self.start()

    def run(self, name, *given):
        asked = [self.programs[name], *map(str, given)]
        before = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        done = subprocess.run([*before, *asked], check=False, capture_output=True, text=True, cwd=self.place)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self):
        log = self.place / "log"
        self.run("pg_ctl", "-D", self.place / "data", "-l", log, "-w", "start")

    def stop(self):
        self.run("pg_ctl", "-D", self.place / "data", "-m", "immediate", "stop")

    def url(self, name="postgres"):
        return f"postgresql://tests@/{name}?host={self.place}"

    def fresh(self):
        """The URL of a database with nothing in it."""
        import psycopg

        name = f"made{next(number)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    if _program("initdb") is None:
        if os.environ.get("CI"):
            pytest.fail(ABSENT)
        pytest.skip(ABSENT)
    server = Server(tmp_path_factory.mktemp("postgresql") / "server")
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """A database with nothing in it, of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "talks.db")
    return request.getfixturevalue("postgresql").fresh()


@pytest.fixture
def store(url):
    made = Store(url)
    yield made
    made.close()
