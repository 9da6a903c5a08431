"""How the page is given."""

import http.client
from pathlib import Path

import httpx2 as httpx
import pytest
from typer.testing import CliRunner

from turnsmith.cli.main import app as turnsmith
from turnsmith.serve.face import BUILT, built
from turnsmith.serve.store.keys import made


@pytest.fixture(scope="module")
def asset():
    """The largest script of the build."""
    names = [name for name in built() if name.startswith("assets/") and name.endswith(".js")]
    return max(names, key=lambda name: len(built()[name]))


def test_the_index_may_run_only_what_comes_from_here_and_is_in_no_frame(server):
    answer = httpx.get(f"{server.url}/")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    rules = dict(one.split(" ", 1) for one in answer.headers["Content-Security-Policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["img-src"] == "'self' data:"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "Set-Cookie" not in answer.headers


def test_assets_are_kept_for_good_and_the_index_is_asked_for_each_time(server, asset):
    assert httpx.get(f"{server.url}/").headers["Cache-Control"] == "no-cache"
    answer = httpx.get(f"{server.url}/{asset}")
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert answer.content == (BUILT / asset).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/../face.py", "/assets/../../face.py", "/assets/..%2f..%2fface.py", "/%2e%2e/face.py",
        "/assets/%2e%2e/%2e%2e/app.py", "//etc/passwd", "/assets/", "/assets/none.js", "/index.html%00",
    ],
)  # fmt: skip
def test_nothing_but_the_build_can_be_asked_for(server, path):
    connection = http.client.HTTPConnection(*server.url.removeprefix("http://").split(":"))
    connection.request("GET", path)  # as it stands: other clients tidy such paths
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    assert answer.status == 404
    assert b"import" not in said


def test_what_a_page_has_to_know_is_said_to_who_may_ask(running, store):
    key = store.write(lambda session: made(session, "ann", "annotator")).result()
    here = running({}, store=store, criteria=("kind",))
    assert httpx.get(f"{here.url}/v1/page").status_code == 401
    told = httpx.get(f"{here.url}/v1/page", headers={"Authorization": f"Bearer {key}"}).json()
    assert told == {"name": "ann", "role": "annotator", "kept": True, "criteria": ["kind"]}
    assert httpx.get(f"{here.url}/").status_code == 200  # the page itself asks for the key


def test_without_a_page_there_is_none(running):
    here = running({}, page=False)
    assert httpx.get(f"{here.url}/").status_code == 404
    assert httpx.get(f"{here.url}/v1/page").status_code == 404


def test_the_command_leaves_the_page_out_where_it_is_told_to(monkeypatch):
    asked = []
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: asked.append(self.config.app))
    there = []
    for more in ([], ["--no-page"]):
        words = ["serve", "away=http://127.0.0.1:9/v1#away", "--db", "none", "--port", "0", *more]
        done = CliRunner().invoke(turnsmith, words)
        assert done.exit_code == 0, done.output
        told = "with a page on http://127.0.0.1:" in done.output
        there.append((told, "/v1/page" in asked[-1].openapi()["paths"]))
    assert there == [(True, True), (False, False)]


def test_the_package_holds_the_build_and_not_its_source():
    kinds = {Path(name).suffix for name in built()}
    assert {".html", ".js", ".css", ".txt"} <= kinds
    assert not kinds & {".ts", ".tsx", ".json", ".map"}
