"""Models of another server, which is one of ours or misbehaves."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2 as httpx
import openai
import pytest

from turnsmith.errors import UsageError
from turnsmith.recipes.serving import backend, opened

ASKED = [{"role": "user", "content": "What is a fjord?"}]


@pytest.fixture(scope="module")
def front(server, running):
    """A server in front of another one: one model by name, and all of its models."""
    served = opened({"mine": f"{server.url}/v1#tiny"})
    url = running(served, backends=[backend(f"{server.url}/v1?seconds=20")]).url
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("name", ["mine", "tiny"])
def test_an_answer_is_that_of_the_server_behind_under_the_name_from_here(client, front, name):
    asked = {"messages": ASKED, "seed": 5, "max_tokens": 8, "logprobs": True}
    there = client.chat.completions.create(model="tiny", **asked)
    here = front.chat.completions.create(model=name, **asked)
    assert here.model == name
    assert here.choices[0].message == there.choices[0].message
    assert here.usage == there.usage
    pieces = list(front.chat.completions.create(model=name, stream=True, **asked))
    assert {one.model for one in pieces} == {name}
    text = "".join(one.choices[0].delta.content or "" for one in pieces)
    assert text == there.choices[0].message.content
    ids = [40, 41, 42]
    texts = [one.completions.create(model=model, prompt=ids, seed=1, max_tokens=3).choices[0].text
             for one, model in ((client, "tiny"), (front, name))]  # fmt: skip
    assert texts[0] == texts[1]
    (theirs,) = client.embeddings.create(model="tiny", input=ids).data
    (ours,) = front.embeddings.create(model=name, input=ids).data
    assert ours.embedding == pytest.approx(theirs.embedding, abs=1e-5)


def test_models_of_both_are_listed(front):
    assert {one.id for one in front.models.list()} == {"mine", "tiny"}
    with pytest.raises(openai.NotFoundError, match="no model 'other' is served"):
        front.chat.completions.create(model="other", messages=ASKED)


def test_an_error_is_passed_on(front):
    with pytest.raises(openai.BadRequestError, match="the last message is the assistant's"):
        front.chat.completions.create(model="mine", messages=[{"role": "assistant", "content": "x"}])


class Strange(BaseHTTPRequestHandler):
    """Answers each path in its own bad way."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status, kind, said, length = ANSWERS[self.path.split("/")[1]]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Retry-After", "7")
        self.send_header("Content-Length", str(length or len(said)))
        self.end_headers()
        self.wfile.write(said)


CHUNK = (
    b'data: {"model": "m", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": null}]}\n\n'
)
ANSWERS = {
    "old": (429, "application/json", b'{"object": "error", "message": "too many", "type": "busy"}', None),
    "detail": (422, "application/json", b'{"detail": [{"loc": ["x"]}]}', None),
    "text": (500, "text/plain", b"Internal Server Error", None),
    "key": (401, "application/json", b'{"error": {"message": "wrong key sk-1"}}', None),
    "page": (200, "text/html", b"<html>", None),
    "short": (200, "text/event-stream", CHUNK, None),
    "broken": (200, "text/event-stream", CHUNK, 4096),
}


@pytest.fixture(scope="module")
def strange(running):
    other = ThreadingHTTPServer(("127.0.0.1", 0), Strange)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{other.server_port}"
    served = opened({name: f"{base}/{name}#m" for name in ANSWERS} | {"away": "http://127.0.0.1:9/v1#m"})
    yield running(served, backends=[backend("http://127.0.0.1:9/v1")]).url
    other.shutdown()
    other.server_close()


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("old", 429, "too many"),
        ("detail", 422, '[{"loc": ["x"]}]'),
        ("text", 500, "Internal Server Error"),
        ("key", 502, "refuses this server's key"),
        ("page", 502, "answers with no JSON object"),
        ("away", 503, "http://127.0.0.1:9/v1, which this model is at, cannot be reached"),
        ("unknown", 503, "cannot be reached"),
    ],
)
def test_a_server_that_is_away_or_fails_gives_an_error_in_openais_form(strange, name, status, said):
    body = {"model": name, "messages": ASKED}
    answer = httpx.post(f"{strange}/v1/chat/completions", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert said in error["message"]
    assert "sk-1" not in error["message"]
    assert answer.headers.get("Retry-After") == ({"old": "7", "away": "1", "unknown": "1"}.get(name))


def test_what_is_away_is_not_listed(strange):
    found = httpx.get(f"{strange}/v1/models").json()["data"]
    assert {one["id"] for one in found} == {*ANSWERS, "away"}


@pytest.mark.parametrize(("name", "said"), [("short", "ended the stream before"), ("broken", "broke off")])
def test_a_stream_that_breaks_ends_with_an_error(strange, name, said):
    body = {"model": name, "messages": ASKED, "stream": True}
    answer = httpx.post(f"{strange}/v1/chat/completions", json=body)
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]
    assert events[0]["choices"][0]["delta"]["content"] == "Hi"
    assert events[0]["model"] == name
    assert said in events[1]["error"]["message"]
    assert len(events) == 2


def test_what_llamacpp_runs_is_not_served():
    with pytest.raises(UsageError, match=r"Start llama.cpp's own server and serve that, NAME=URL#MODEL"):
        opened({"x": "llamacpp:x.gguf"})
