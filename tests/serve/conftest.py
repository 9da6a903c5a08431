"""Servers for the tests, and their databases: SQLite in a file, and PostgreSQL, started here."""

import os
import shutil
import subprocess
import tempfile
import threading
import time
from itertools import count
from pathlib import Path

import openai
import pytest
import uvicorn

from turnsmith.data.render import Renderer
from turnsmith.models.load import load
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import KEPT, LocalEngine
from turnsmith.serve.app import app
from turnsmith.serve.batching import Batching
from turnsmith.serve.served import Served
from turnsmith.serve.store.writing import Store
from turnsmith.testing import directory

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
        if os.geteuid() == 0:
            shutil.chown(place, "postgres")
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
def postgresql():
    if _program("initdb") is None:
        if os.environ.get("CI"):
            pytest.fail(ABSENT)
        pytest.skip(ABSENT)
    with tempfile.TemporaryDirectory(prefix="turnsmith-postgresql-") as place:  # pytest's are for one user
        server = Server(Path(place))
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """A database with nothing in it, of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "talks.db")
    return request.getfixturevalue("postgresql").fresh()


@pytest.fixture
def make_store():
    """Opens stores, and closes them at the end."""
    made = []

    def make(url):
        made.append(Store(url))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def store(url, make_store):
    return make_store(url)


class Running:
    """A server on a port of its own."""

    def __init__(self, served, **more):
        self.app = app(served, **more)
        self.server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def stop(self):
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="module")
def running():
    """Starts servers, and stops them at the end."""
    started = []

    def start(served, **more):
        started.append(Running(served, **more))
        return started[-1]

    yield start
    for one in reversed(started):
        one.stop()


@pytest.fixture(scope="module")
def local_directory(tmp_path_factory):
    return directory(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def local(local_directory):
    # In fp32 whatever is fastest here, so that numbers are the same on every machine.
    model, words = load(str(local_directory))
    renderer = Renderer(words)
    return LocalChat(LocalEngine(model, stop=renderer.stops, kept=KEPT), renderer)


@pytest.fixture(scope="module")
def batching(local):
    made = Batching(local.engine, rows=4, capacity=512, waiting=3)
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(local, batching, running):
    return running({"tiny": Served("tiny", local, batching)}, largest=20_000)


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
