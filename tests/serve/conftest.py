"""Servers on ports of their own, and OpenAI's client."""

import threading
import time

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
from turnsmith.testing import directory


class Running:
    """A server on a port of its own."""

    def __init__(self, served, **more):
        config = uvicorn.Config(app(served, **more), port=0, log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def stop(self):
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    # In fp32 whatever is fastest here, so that numbers are the same on every machine.
    model, words = load(str(directory(tmp_path_factory.mktemp("tiny") / "model")))
    renderer = Renderer(words)
    return LocalChat(LocalEngine(model, stop=renderer.stops, kept=KEPT), renderer)


@pytest.fixture(scope="module")
def batching(local):
    return Batching(local.engine, rows=4, capacity=512, waiting=3)


@pytest.fixture(scope="module")
def running():
    """Starts servers of what is served, which end with the module."""
    started = []

    def start(served, **more):
        started.append(Running(served, **more))
        return started[-1]

    yield start
    for one in reversed(started):
        one.stop()


@pytest.fixture(scope="module")
def server(local, batching, running):
    return running({"tiny": Served("tiny", local, batching)}, largest=20_000)


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
