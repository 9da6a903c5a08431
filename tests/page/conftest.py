"""The page in a real browser, over the real server and store; only the model behind is told what to say."""

import json
import re
import socket
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
import uvicorn

from turnsmith.recipes.serving import opened
from turnsmith.serve.app import app
from turnsmith.serve.store.writing import Store
from turnsmith.testing.server import serving, streams

CHROMIUM = Path("/usr/bin/chromium")
SAYS = re.compile(r"\s*\S+\s*")
SOON = 20_000  # milliseconds within which what is waited for has to be there, also on a busy machine


class Site:
    """A server with the page, at a port that it keeps when it comes back. up: the model behind it. names:
    what is served, by name, where that is something else."""

    def __init__(self, up, db, names=None, **more):
        self.db, self.more = db, more
        self.names = names or {"fjord": f"{up.url}#fjord", "geyser": f"{up.url}#geyser"}
        self.port = 0
        self.start()

    def start(self):
        store = Store(self.db) if self.db else None
        made = app(opened(self.names), store=store, **self.more)
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        self.server = uvicorn.Server(uvicorn.Config(made, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, args=([listening],), daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self):
        """Break off all connections, those too that come at the last moment, and go."""
        self.server.should_exit = True
        while self.thread.is_alive():
            for connection in list(self.server.server_state.connections):
                with suppress(RuntimeError):  # its loop has ended
                    connection.loop.call_soon_threadsafe(connection.transport.abort)
            self.thread.join(0.05)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path):
        with urllib.request.urlopen(f"{self.url}/v1/{path}", timeout=20) as answer:
            return json.load(answer)

    def trees(self):
        """All conversations, the newest first."""
        listed = self.ask("conversations?limit=100")["data"]
        return [self.ask(f"conversations/{one['id']}") for one in listed]


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not CHROMIUM.is_file():
        pytest.skip("needs Chromium: apt-get install chromium")
    playwright.expect.set_options(timeout=SOON)
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=str(CHROMIUM))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def up():
    """The model behind, which says what it is told to: `up.behaviours`, `up.usual`."""
    with serving() as server:
        server.usual = streams("So it is.")
        yield server


@pytest.fixture(scope="module")
def site(up, tmp_path_factory):
    running = Site(up, str(tmp_path_factory.mktemp("page") / "talks.db"))
    yield running
    running.stop()


@pytest.fixture
def own(up, tmp_path):
    """Starts servers of one test's own, with a store of their own or none."""
    started = []

    def start(db="talks.db", **more):
        started.append(Site(up, str(tmp_path / db) if db else None, **more))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def tab(browser, site, up):
    """Opens a view in a tab of its own; at the end nothing may have gone wrong in any."""
    contexts, wrong = [], []

    def open_(path="#/chat", *, at=site, **more):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **more})
        context.set_default_timeout(SOON)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Security Policy" in said.text else None)
        page.goto(f"{at.url}/{path}")
        return page

    yield open_
    for context in contexts:
        context.close()
    up.behaviours.clear()
    assert wrong == []


@pytest.fixture
def say():
    """Says something on a page."""

    def say_(page, text):
        field = page.get_by_label("Write a message")
        field.fill(text)
        field.press("Enter")

    return say_


@pytest.fixture
def held():
    """Makes replies that come up to a piece and go on when they are let go of, with a pause before each."""
    gates = []

    def held_(text, after, pause=0.0):
        gate = threading.Event()
        gates.append(gate)

        def before(number):
            if number >= after:
                gate.wait(20)
                time.sleep(pause)

        return gate, streams(*SAYS.findall(text), before=before)

    yield held_
    for gate in gates:
        gate.set()
