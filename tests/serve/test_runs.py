"""Runs as those who watch them see them: while they are at work, when they have ended, and nothing beside."""

import http.client
import json
import subprocess
import sys

import httpx2 as httpx
import pytest

from turnsmith.cli import serve
from turnsmith.recipes import deployed
from turnsmith.recipes.audit import audit
from turnsmith.recipes.browsing import Browsing
from turnsmith.recipes.steps import Steps
from turnsmith.report import left
from turnsmith.report.words import MINUS
from turnsmith.serve.runs import Runs
from turnsmith.serve.store import keys
from turnsmith.shelf import write_text
from turnsmith.testing import conversations, directory, jsonl

FIT = {"steps": 4, "batch": 2, "length": 192, "dtype": "float32"}


class Place:
    """A directory of runs and the server that shows it."""

    def __init__(self, where):
        self.where, self.root, self.shelf = where, where / "runs", where / "home" / "shelf"
        self.seen = []

    def get(self, path, **more):
        return httpx.get(f"{self.server.url}{path}", **more)

    def json(self, path, **query):
        answer = self.get(f"/v1/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def looked(self, line):
        """What is seen of the run at the moment in which it says this."""
        if "step 2:" in line:
            self.seen += [self.json("runs"), self.json("runs/mine/curves"), self.json("runs/mine")]


@pytest.fixture(scope="module")
def place(tmp_path_factory, running):
    """One run, looked at while it trains; it is at `runs/mine`."""
    where = tmp_path_factory.mktemp("place")
    made = Place(where)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        patch.setenv("TURNSMITH_HOME", str(where / "home"))
        base = directory(where / "model")
        jsonl(where / "chats.jsonl", conversations(12))
        made.server = running({}, runs=Runs(made.root, made.shelf, Browsing(made.shelf)))
        made.empty = made.json("runs")
        with Steps(base, name="mine", title="A small one", forgetting=False, say=made.looked) as go:
            go.data({"train": 0.7, "held": 0.3}, read="chats.jsonl")
            watch = {"every": 2, "suite": [{"heldout": {"on": "held"}}]}
            go.train("tuned", data="train", trainable={"lora": {"rank": 2}}, fit=FIT, watch=watch)
            go.evaluate("tuned", suite=[{"heldout": {"on": "held"}}])
        yield made


def test_where_no_run_is_there_is_none(place):
    assert place.empty == {"object": "list", "data": []}


def test_a_run_at_work_says_where_it_is_and_shows_its_curves(place):
    listed, curves, whole = place.seen
    (one,) = listed["data"]
    assert (one["name"], one["state"], one["title"]) == ("mine", "running", "A small one")
    assert one["at"] == {"verb": "train", "name": "tuned", "step": 2, "total": 4}
    assert (one["report"], whole["report"], whole["data"]) == (False, None, [])
    assert [(step["verb"], step["name"]) for step in whole["steps"]] == [("data", "train+held")]
    (step,) = curves["steps"]
    assert (step["name"], step["step"], step["total"]) == ("tuned", 2, 4)
    assert [chart["title"] for chart in step["charts"]][:2] == ["Loss", "Learning rate"]
    assert all(chart["image"].startswith("<svg") for chart in step["charts"])


def test_a_run_that_ended_says_what_it_found(place):
    (one,) = place.json("runs")["data"]
    whole = place.json("runs/mine")
    told = json.loads((place.root / "mine" / "run.json").read_text())
    assert (one["state"], one["at"], one["report"]) == ("done", None, True)
    assert one["seconds"] == told["cost"]["seconds"]
    assert [step["verb"] for step in whole["steps"]] == ["data", "train", "evaluate"]
    metric = told["steps"][2]["tasks"][0]["metrics"][0]
    figure = whole["figures"][0]
    assert (figure["name"], figure["n"], figure["verdict"]) == (
        metric["name"],
        metric["n"],
        metric["verdict"],
    )
    assert float(figure["after"]) == pytest.approx(metric["after"], abs=0.01)
    assert not (place.root / "mine" / left.NOW).exists()


def test_curves_that_are_known_are_not_sent_again(place):
    first = place.get("/v1/runs/mine/curves")
    tag = first.headers["ETag"]
    again = place.get("/v1/runs/mine/curves", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    (metrics,) = place.shelf.glob("*/metrics.jsonl")
    text = metrics.read_text()
    metrics.write_text(text + '{"step": 5, "loss": 1.0}\n{"step": 6, "lo')  # a line and a half more
    try:
        anew = place.get("/v1/runs/mine/curves", headers={"If-None-Match": tag})
    finally:
        metrics.write_text(text)
    assert (anew.status_code, anew.json()["steps"][0]["step"]) == (200, 5)


def test_a_report_is_given_to_a_frame_that_can_do_nothing(place):
    address = place.json("runs/mine")["report"]
    answer = place.get(address)
    assert answer.text == (place.root / "mine" / "report.html").read_text()
    rules = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in rules
    assert "sandbox" in rules
    assert "allow-scripts" not in rules
    assert "script-src" not in rules


NAMES = [
    ".",
    "..",
    "../home",
    "..%2Fhome",
    "%2e%2e%2fhome",
    "mine%2Ftuned",
    "mine/../mine",
    "%2Fetc",
    "linked",
    "no",
]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_listed_is_not_there(place, name):
    link = place.root / "linked"
    if not link.exists():
        link.symlink_to(place.root / "mine", target_is_directory=True)
    for path in (f"/v1/runs/{name}", f"/v1/runs/{name}/report", f"/v1/runs/{name}/curves"):
        plain = http.client.HTTPConnection("127.0.0.1", int(place.server.url.rsplit(":", 1)[1]))
        plain.request("GET", path)  # sent as it stands: other clients tidy it first
        assert plain.getresponse().status == 404, path
        plain.close()


def test_links_to_other_places_are_not_followed(place, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("<p>secret</p>")
    other = place.root / "other"
    other.mkdir()
    (other / "recipe.yaml").write_text("base: x\n")
    (other / "report.html").symlink_to(secret)
    (other / "run.json").symlink_to(place.root / "mine" / "run.json")
    assert place.get("/v1/runs/other/report").status_code == 404
    assert place.json("runs/other")["steps"] == []
    step = {"verb": "train", "name": "x", "artefact": "../../../etc", "path": str(tmp_path)}
    (other / "run.json").unlink()
    write_text(other / "run.json", json.dumps({"state": "done", "steps": [step]}))
    assert place.json("runs/other/curves")["steps"] == []


def test_examples_are_shown_as_they_were_trained_on(place):
    found = place.json("data", run="mine", start=1, count=2)
    told = json.loads((place.root / "mine" / "run.json").read_text())
    kept = told["steps"][1]["shown"][1]  # the second of the three that the report has
    assert (found["steps"], found["step"], found["data"], found["whole"]) == (
        ["tuned"],
        "tuned",
        "train",
        True,
    )
    assert found["total"] == told["steps"][0]["sizes"]["train"]
    assert [one["number"] for one in found["examples"]] == [1, 2]
    one = found["examples"][0]
    (sequence,) = one["sequences"]
    assert one["id"] == kept["id"]
    assert sequence["texts"] == [token["text"] for token in kept["tokens"]]
    assert sequence["weights"] == [token["weight"] for token in kept["tokens"]]
    assert sequence["trained"] == sum(token["weight"] != 0 for token in kept["tokens"])
    assert place.json("data", run="mine", start=1000)["examples"] == []


def test_a_run_that_does_not_say_what_it_read_shows_what_it_kept(place):
    told = json.loads((place.root / "mine" / "run.json").read_text())
    del told["steps"][1]["reads"]
    older = place.root / "older"
    write_text(older / "run.json", json.dumps(told))
    found = place.json("data", run="older")
    assert (found["whole"], found["total"], len(found["examples"])) == (False, 3, 3)


@pytest.mark.parametrize(
    ("query", "status"),
    [({"run": "no"}, 404), ({"run": "mine", "step": "no"}, 400), ({"run": "mine", "count": 99}, 400)],
)
def test_examples_that_cannot_be_shown_are_refused(place, query, status):
    assert place.get("/v1/data", params=query).status_code == status


KILLED = """
import os, signal, sys, time
from pathlib import Path
from turnsmith.recipes import keeping
from turnsmith.shelf import write_text
where = Path(sys.argv[1])
hold = keeping.hold(where)
write_text(where / "now.json", '{"title": "Cut short", "steps": []}')
print("there", flush=True)
time.sleep(60)
"""


def test_a_run_that_was_killed_is_not_at_work(place):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(place.root / "cut")], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "there\n"
    assert place.json("runs/cut")["state"] == "running"
    child.kill()
    child.wait()
    child.stdout.close()
    one = place.json("runs/cut")
    assert (one["state"], one["title"]) == ("killed", "Cut short")


def test_runs_are_for_annotators_and_a_seal_opens_its_report_alone(place, running, make_store, tmp_path):
    store = make_store(str(tmp_path / "talks.db"))
    made = {
        role: store.write(lambda s, r=role: keys.made(s, r, r)).result() for role in ("user", "annotator")
    }
    server = running({}, store=store, runs=Runs(place.root, place.shelf, Browsing(place.shelf)))

    def status(path, role=None):
        header = {"Authorization": f"Bearer {made[role]}"} if role else {}
        return httpx.get(f"{server.url}{path}", headers=header).status_code

    paths = ["/v1/runs", "/v1/runs/mine", "/v1/runs/mine/curves", "/v1/runs/mine/report", "/v1/data?run=mine"]
    assert [status(path) for path in paths] == [401] * 5
    assert [status(path, "user") for path in paths] == [403] * 5
    assert [status(path, "annotator") for path in paths] == [200] * 5
    header = {"Authorization": f"Bearer {made['annotator']}"}
    address = httpx.get(f"{server.url}/v1/runs/mine", headers=header).json()["report"]
    assert status(address) == 200
    assert status(address.replace("/mine/", "/older/")) == 401
    assert status(address.replace("until=", "until=9")) == 401


def test_a_run_keeps_that_its_model_is_served(place, monkeypatch, capsys):
    monkeypatch.setattr("uvicorn.Server.run", lambda *given, **more: None)
    model = place.root / "mine" / "tuned"
    serve.command([f"mine={model}", f"plain={place.where / 'model'}"], port=0, db="none")
    address = capsys.readouterr().out.split(", on ")[1].split(",")[0]
    (row,) = deployed.noted(place.root / "mine")
    assert (row["model"], row["way"], row["place"], row["files"]) == ("tuned", "served", address, None)
    stage = audit(place.root / "mine")["stages"][5]
    assert (stage["name"], stage["state"]) == ("deployment", "pass")


def test_comparisons_have_their_table_and_their_plots(place):
    write_text(place.root / "both" / "comparison.json", json.dumps(COMPARISON))
    listed = {one["name"]: one for one in place.json("runs")["data"]}
    assert (listed["both"]["kind"], listed["both"]["said"]) == ("comparison", "Take a.")
    found = place.json("comparisons/both")
    assert [(one["name"], one["best"]) for one in found["methods"]] == [("a", True), ("b", False)]
    cell = found["methods"][0]["cells"][0]
    assert (cell["after"], cell["difference"], cell["verdict"]) == ("2.00", f"{MINUS}1.00", "better")
    assert cell["interval"] == f"{MINUS}1.20 to {MINUS}0.80"
    (plot,) = found["plots"]
    assert plot["front"] == ["a", "b"]
    assert plot["image"].startswith("<svg")
    assert place.get("/v1/comparisons/mine").status_code == 404


def figures(after, difference, low, high, verdict):
    return {"after": after, "difference": difference, "low": low, "high": high, "verdict": verdict, "n": 40}


SPENT = {"seconds": 60.0, "tokens": 1000, "flops": 1e12}
METHOD = {"dropped": None, "said": ["with rank 8"], "spent": SPENT}
COMPARISON = {
    "title": "a, b on chats", "advice": ["Take a."], "model": "tiny", "data": {"read": "chats", "by": "id"},
    "seeds": 1, "failed": {}, "finished": "2026-11-30T10:00:00+00:00", "budget": {"text": "1 min"},
    "methods": [{"name": "a", **METHOD}, {"name": "b", **METHOD}],
    "against_best": {"best": "a", "others": {}},
    "tasks": [
        {"name": "loss", "unit": "nats", "better": "lower", "methods": {
            "a": figures(2.0, -1.0, -1.2, -0.8, "better"), "b": figures(2.5, -0.5, -0.7, -0.3, "better")}},
        {"name": "KL from the start model", "unit": "nats", "better": "lower", "methods": {
            "a": figures(0.4, 0.4, 0.3, 0.5, "worse"), "b": figures(0.1, 0.1, 0.05, 0.15, "worse")}},
    ],
}  # fmt: skip
