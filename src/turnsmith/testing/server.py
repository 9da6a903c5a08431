"""A server on 127.0.0.1 that speaks chat completions, and misbehaves on demand."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Handler", dict[str, Any]], None]


def reply(
    content: Any = "Hello.",
    finish: str | None = "stop",
    usage: tuple[int, int] | None = (11, 3),
    **message: Any,
) -> dict[str, Any]:
    """What a server says. usage: tokens read and written. message: further keys of the message."""
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1]} if usage else None
    return {"choices": [choice], **({"usage": counts} if counts else {})}


def says(body: Any, status: int = 200, **headers: str) -> Behaviour:
    """Answer so. body: bytes, or what is written as JSON; or a function of the request that gives it."""

    def behave(handler: Handler, asked: dict[str, Any]) -> None:
        said = body(asked) if callable(body) else body
        content = said if isinstance(said, bytes) else json.dumps(said).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return behave


def streams(
    *pieces: Any, done: bool = True, before: Callable[[int], None] = lambda number: None, end: bytes = b"\n\n"
) -> Behaviour:
    """Answer in server-sent events. pieces: of the content, or whole chunks. done: say that it ends; else the
    connection breaks off. before: is called with each piece's number before it is sent. end: of an event."""

    def behave(handler: Handler, asked: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        chunks = [chunk(one) if isinstance(one, str) else one for one in pieces]
        try:
            for number, one in enumerate([*chunks, *(["[DONE]"] if done else [])]):
                before(number)
                data = one if isinstance(one, str) else json.dumps(one)
                content = b": still here" + end + b"data: " + data.encode() + end
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
            handler.wfile.write(b"0\r\n\r\n" if done else b"")
        except OSError:
            handler.served.left.set()  # the other side has gone
        handler.close_connection = True

    return behave


def chunk(content: str | None = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """One piece of a reply that is streamed."""
    said = {**({} if content is None else {"content": content}), **delta}
    return {"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def breaks_off(handler: Handler, asked: dict[str, Any]) -> None:
    """A part of what was promised, then the end of the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def resets(handler: Handler, asked: dict[str, Any]) -> None:
    """No answer: the connection is reset."""
    at_once = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # lingering on, 0 s: closing sends a reset
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    handler.close_connection = True


def is_silent(handler: Handler, asked: dict[str, Any]) -> None:
    """Nothing, as long as the server runs."""
    handler.served.over.wait(60)
    handler.close_connection = True


def never_ends(piece: bytes, pause: float = 0.0, *, header: bool = False) -> Behaviour:
    """A body, or a header, of which a piece comes again and again, `pause` seconds apart."""

    def behave(handler: Handler, asked: dict[str, Any]) -> None:
        handler.close_connection = True
        try:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"X-Long: " if header else b"\r\n"))
            while not handler.served.over.is_set():
                handler.wfile.write(piece)
                time.sleep(pause)
        except OSError:
            pass  # the other side has had enough

    return behave


class Handler(BaseHTTPRequestHandler):
    """Notes what is asked, and behaves as the server is told to."""

    protocol_version = "HTTP/1.1"

    @property
    def served(self) -> Server:
        assert isinstance(self.server, Server)
        return self.server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.served
        with server.lock:
            server.asked.append(asked)
            server.keys.append(self.headers.get("Authorization"))
            server.under_way += 1
            server.most = max(server.most, server.under_way)
            behave = server.behaviours.popleft() if server.behaviours else server.usual
        try:
            behave(self, asked)
        finally:
            with server.lock:
                server.under_way -= 1

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """behaviours: of the next requests, in turn; usual: of all others. asked: the bodies that came; keys:
    their `Authorization`; most: how many were under way at once. left: whether a client went while a reply
    was streamed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.over, self.left = threading.Lock(), threading.Event(), threading.Event()
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.behaviours: deque[Behaviour] = deque()
        self.usual = says(reply())
        self.under_way = self.most = 0

    @property
    def url(self) -> str:
        """What `/chat/completions` is put behind."""
        return f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def serving() -> Generator[Server]:
    """The server, while the block runs."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
