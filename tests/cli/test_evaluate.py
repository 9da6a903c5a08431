"""`turnsmith evaluate`: several models, alone or against another, with tasks as a recipe spells them."""

import json
import re
from pathlib import Path

import pytest

from turnsmith.cli.main import call
from turnsmith.testing import conversations, directory, jsonl

QUESTIONS = [{"question": f"What is {n}?", "options": ["one", "a number"], "answer": n % 2} for n in range(9)]


@pytest.fixture(autouse=True)
def questions(here, monkeypatch, tmp_path):
    """A file of questions in the working directory, and an empty cache."""
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    Path("q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))


CHOICE = "choice: {file: q.jsonl, count: 9}"


def result(capfd):
    (found,) = json.loads(capfd.readouterr().out)
    return [step for step in found["steps"] if step["verb"] == "evaluate"]


def test_models_alone_have_figures_with_intervals_of_their_own(here, tiny, capfd):
    other = directory(here / "other", seed=1)
    assert call(["evaluate", str(tiny), str(other), "--suite", CHOICE, "--json"]) == 0
    first, second = result(capfd)
    assert [first["model"], second["model"]] == [str(tiny), str(other)]
    for step in (first, second):
        assert step["against"] is None
        for metric in step["tasks"][0]["metrics"]:
            assert metric["n"] == 9
            assert metric["low"] <= metric["after"] <= metric["high"]
            assert metric["difference"] is None
            assert metric["chance"] == 0.5


def test_models_against_another_are_compared_each_and_nothing_is_measured_twice(here, tiny, capfd):
    directory(here / "second", seed=1)
    third = directory(here / "third", seed=2)
    suite = ["--suite", CHOICE, "--suite", "heldout: {length: 100}", "--data", "chats.jsonl"]
    jsonl(here / "chats.jsonl", conversations(8))
    assert call(["evaluate", "second", str(third), "--against", str(tiny), *suite, "--json"]) == 0
    steps = result(capfd)
    assert [step["against"] for step in steps] == ["base", "base"]
    assert [task["task"] for task in steps[0]["tasks"]] == ["choice", "heldout"]
    for step, model in zip(steps, ("./second", str(third)), strict=True):
        assert step["model"] == model
        assert all(metric["difference"] is not None for task in step["tasks"] for metric in task["metrics"])
    assert not steps[0]["tasks"][0]["reused"]["base"]
    assert steps[1]["tasks"][0]["reused"]["base"]


def test_the_table_has_a_row_for_each_figure_and_a_column_for_each_model(here, tiny, capfd):
    directory(here / "other", seed=1)
    assert call(["evaluate", str(tiny), "other", "--suite", CHOICE]) == 0
    said = capfd.readouterr().out
    table = said[said.index("Multiple choice: q.jsonl") :]
    for name in ("right in chat (share)", "right as text, by length (share)"):
        [row] = [line for line in table.splitlines() if line.strip().startswith(name)]
        assert row.count("[") == 2
    page = (here / "runs" / f"evaluate-{tiny.name}-other" / "report.html").read_text()
    assert "Multiple choice: q.jsonl" in page
    assert "against" not in page[page.index('id="gains"') : page.index("What was measured how long")]


def test_a_file_that_has_changed_is_measured_anew_and_one_that_moved_is_not(here, tiny, capfd):
    def reused(suite):
        assert call(["evaluate", str(tiny), "--suite", suite, "--json"]) == 0
        [step] = result(capfd)
        return step["tasks"][0]["reused"][str(tiny)]

    assert not reused("choice: {file: q.jsonl}")
    Path("q.jsonl").rename("moved.jsonl")
    assert reused("choice: {file: moved.jsonl}")
    with Path("moved.jsonl").open("a") as file:
        file.write(json.dumps(QUESTIONS[0]) + "\n")
    assert not reused("choice: {file: moved.jsonl}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suite", "choice: {file: none.jsonl}"], "no data at '.*none.jsonl'"),
        (["--suite", "choice: {fiel: q.jsonl}"], "task 'choice' has no option 'fiel'; did you mean 'file'"),
        (["--suite", "choice"], "task 'choice' needs the option 'file'"),
        (["--suite", "chioce"], "no task is called 'chioce'; did you mean 'choice'"),
        (["--suite", "choice: {file"], "--suite choice: {file: write a task as a recipe does"),
        (["--suite", "choice:file=q.jsonl"], "--suite choice:file=q.jsonl: write a task as a recipe does"),
        (["--suite", "choice: 3"], "choice: expected|expected the name of a component"),
        (["--suite", "heldout"], "the task 'heldout' measures on conversations: give them with --data"),
        (
            ["--suite", "divergence"],
            "the task 'divergence' compares with the start model: name one with --against",
        ),
        (["--against", "TINY"], "would be compared with itself: leave it out of the models"),
    ],
)
def test_wrong_use_is_said_before_anything_is_loaded(tiny, refused, arguments, said):
    given = [str(tiny) if one == "TINY" else one for one in arguments]
    words = refused("evaluate", tiny, *given)
    assert re.search(said, words), words


def test_a_bad_row_is_named_by_its_line(tiny, refused):
    with Path("q.jsonl").open("a") as file:
        file.write(json.dumps({**QUESTIONS[0], "answer": 2}) + "\n")
    words = refused("evaluate", tiny, "--suite", "choice: {file: q.jsonl}")
    assert "q.jsonl, line 10: 'answer' is 2, and must be the place of one of 2 options, from 0 to 1" in words
