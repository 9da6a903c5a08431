"""From a press of a key to a tuned model: what is voted for on the page is what a model learns."""

import json

import pytest
import torch

from turnsmith.cli.main import call
from turnsmith.testing import directory

expect = pytest.importorskip("playwright.sync_api").expect
CHATS = 20
SHORT = "localStorage.setItem('turnsmith.settings', JSON.stringify({max_tokens: 12, temperature: 0}))"
TUNING = {
    "steps.0.data.name": "{train: 0.6, heldout: 0.4}",
    "steps.1.train.fit.batch": 8,
    "steps.1.train.fit.dtype": "float32",
    "steps.2.evaluate.suite": "[{margins: {on: heldout}}]",
    "forgetting": "false",
}
VOTE = "Which reply is better?"


@pytest.fixture(autouse=True)
def one_thread():
    """So that it takes as long on a busy machine as on an idle one, and gives the same numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _voted(page, say, text):
    """Ask something, and vote by a key for the reply with more of what is no character: the rival's."""
    say(page, text)
    expect(page.get_by_role("group", name=VOTE)).to_be_visible()
    replies = page.get_by_role("article", name="Reply ").locator(".said")
    both = replies.all_inner_texts()
    better = max(both, key=lambda said: said.count("\ufffd"))
    page.keyboard.press("12"[both.index(better)])
    expect(page.get_by_text("You preferred this one")).to_be_visible()


@pytest.mark.slow
def test_votes_on_the_page_become_a_model_that_is_served_beside_the_old_one(
    own, tab, say, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    start = directory(tmp_path / "start")
    site = own(names={"start": str(start), "rival": str(directory(tmp_path / "rival", seed=3))})
    page = tab("#/people", at=site)
    page.get_by_role("switch", name="Models may be trained on what I said").click()
    expect(page.get_by_text("You have allowed it.")).to_be_visible()
    page.evaluate(SHORT)
    page.goto(f"{site.url}/#/pair")
    page.reload()
    asked = [f"What is {number} and one?" for number in range(CHATS)]
    for text in asked:
        _voted(page, say, text)
        page.get_by_role("button", name="Start anew").click()
    site.stop()

    assert call(["feedback", "export", "pairs.jsonl", "--db", site.db, "--to", "pairs"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text("utf-8").splitlines()]
    assert sorted(row["prompt"][0]["content"] for row in rows) == sorted(asked)
    for row in rows:
        chosen, rejected = (row[side][0]["content"].count("\ufffd") for side in ("chosen", "rejected"))
        assert chosen >= rejected

    capsys.readouterr()
    command = ["feedback", "tune", str(start), "--db", site.db, "--trainable", "full", "--json"]
    command += ["--steps", "16", "--lr", "0.003"]
    for name, value in TUNING.items():
        command += ["--set", f"{name}={value}"]
    assert call(command) == 0
    (told,) = json.loads(capsys.readouterr().out)
    (compared,) = (step for step in told["steps"] if step["verb"] == "evaluate")
    margin = compared["tasks"][0]["metrics"][0]
    assert (margin["name"], margin["n"]) == ("margin", 8)
    assert margin["after"] > margin["before"]

    site.names = {"start": str(start), "better": str(tmp_path / "runs" / told["recipe"] / "better")}
    site.start()
    page.goto(f"{site.url}/#/chat")
    page.reload()
    page.get_by_label("Model").select_option("better")
    say(page, "What is 7 and one?")
    expect(page.get_by_role("article", name="better")).to_be_visible()
    expect(page.get_by_role("button", name="Good reply")).to_be_visible()
    (asked,) = site.trees()[0]["messages"]
    assert [one["model"] for one in asked["replies"]] == ["better"]
