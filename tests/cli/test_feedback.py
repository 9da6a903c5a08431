"""From votes to a tuned model, on the command line."""

import json

import pytest

from turnsmith.cli.main import call
from turnsmith.serve.store import judging, talks
from turnsmith.serve.store.judging import Judged
from turnsmith.serve.store.talks import Ended, Made, Who
from turnsmith.serve.store.writing import Store
from turnsmith.testing import directory
from turnsmith.types import Conversation
from turnsmith.types import Message as Said

PEOPLE = 12


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("turnsmith.db")
    for number in range(PEOPLE):
        store.write(lambda s, number=number: _talk(s, number)).result()
    store.close()
    return tmp_path


def _talk(session, number):
    who, asked = Who("", ""), Conversation((Said("user", f"What is {number} and one?"),))
    for vote, text in ((1, str(number + 1)), (-1, "I do not know.")):
        id = f"r{number}{vote}"
        talks.begun(session, who, asked, Made("tiny"), ids=[id], writer=None)
        talks.ended(session, id, Ended(Said("assistant", text), "stop", 1.0))
        judging.judge(session, talks.person(session, who), id, [Judged("vote", value=vote)], all_trees=False)


def test_pairs_are_exported(place, capsys):
    assert call(["feedback", "export", "pairs.jsonl", "--consent", "assumed", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["people"]) == (PEOPLE, 1)
    assert len((place / "pairs.jsonl").read_text("utf-8").splitlines()) == PEOPLE


def test_without_consent_nothing_is_taken_and_the_way_out_is_said(place, capsys):
    assert call(["feedback", "export", "pairs.jsonl"]) == 2
    assert "--consent assumed" in capsys.readouterr().err


def test_what_is_served_is_tuned_on_votes_and_compared(place, capsys, tmp_path):
    model = directory(tmp_path / "model")
    command = ["feedback", "tune", str(model), "--consent", "assumed", "--steps", "2", "--json"]
    small = (
        "steps.1.train.fit.batch=4",
        "forgetting=false",
        "steps.2.evaluate.suite=[{margins: {on: heldout}}]",
    )
    for change in small:
        command += ["--set", change]
    assert call(command) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert "better" in [step.get("name") for step in told["steps"]]
    assert (place / "runs" / told["recipe"] / "report.html").exists()
    assert list((place / "feedback").glob("pairs-*.jsonl"))
    capsys.readouterr()
    assert call(["feedback", "watch", "--every", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"new": {"rankings": 0, "messages": 0}, "enough": False}


def test_enough_is_said_and_nothing_done(place, capsys):
    assert call(["feedback", "watch", "--every", "0", "--least", "20"]) == 0
    assert "enough to tune: turnsmith feedback tune MODEL --db turnsmith.db" in capsys.readouterr().out
    assert not (place / "feedback").exists()


def test_keys_are_made_listed_and_ended(tmp_path, capsys):
    db = ["--db", str(tmp_path / "a.db")]
    assert call(["keys", "add", "ann", "--role", "annotator", *db]) == 0
    assert capsys.readouterr().out.startswith("ts-")
    assert call(["keys", "add", "ann", *db]) == 2
    assert "is there already" in capsys.readouterr().err
    assert call(["keys", "list", *db]) == 0
    assert capsys.readouterr().out == "ann\tannotator\n"
    assert call(["keys", "end", "ann", *db]) == 0
    assert call(["keys", "list", *db]) == 0
    assert capsys.readouterr().out == ""
    assert call(["keys", "end", "ann", *db]) == 2
    assert call(["keys", "add", "bob", "--role", "king", *db]) == 2


def test_what_was_served_is_looked_at_and_completes_a_run(place, capsys):
    assert call(["feedback", "monitor", "--json", "--run", "nowhere"]) == 2
    assert "no finished run" in capsys.readouterr().err
    (place / "run").mkdir()
    (place / "run" / "run.json").write_text("{}")
    assert call(["feedback", "monitor", "--model", "tiny", "--json", "--run", "run"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["turns"], told["alarms"]) == (2 * PEOPLE, [])
    (window,) = told["windows"]
    assert window["ratings"]["value"] == 3.0  # as many votes of 1 as of -1: 5 and 1
    assert json.loads((place / "run" / "monitor.json").read_text()) == told
    assert call(["feedback", "monitor", "--model", "other"]) == 2
