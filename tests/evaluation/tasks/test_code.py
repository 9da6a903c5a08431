"""The task `code`: programs out of replies, run, counted, and shown."""

import json

import pytest

from turnsmith.data.batch import pad
from turnsmith.errors import UsageError
from turnsmith.evaluation.items import compare
from turnsmith.evaluation.suite import Subject
from turnsmith.evaluation.tasks.code import Code
from turnsmith.types import Message, Reply, Usage

ROWS = [
    {
        "task_id": number,
        "text": f"Write a function to add {number}.",
        "code": f"def add(a): return a + {number}",
        "test_list": [f"assert add(1) == {number + 1}"],
        "test_setup_code": "",
        "challenge_test_list": [],
    }
    for number in (1, 2, 3)
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def subject(*said, finish="stop"):
    """A model that says these in turn."""

    def by(conversations, *, sampling=None, seed=0):
        assert len(conversations) == len(said)
        return [Reply(Message("assistant", text), finish, Usage(1, 1)) for text in said]

    return Subject("tiny", None, None, by, pad)


RIGHT, WRONG, ENDLESS = (ROWS[0]["code"], "def add(a): return a", "def add(a):\n    while True: pass")


def test_each_problem_is_solved_or_not_and_how_it_ended_is_shown(file):
    items = Code(file=file, seconds=1.0).measure(subject(RIGHT, WRONG, ENDLESS), None)
    assert [(item.id, item.values["pass@1"], item.values["time"]) for item in items] == [
        ("1", 1.0, 0.0), ("2", 0.0, 0.0), ("3", 0.0, 1.0)
    ]  # fmt: skip
    assert [item.shown["outcomes"] for item in items] == [{"passed": 1}, {"exit": 1}, {"time": 1}]
    assert [item.shown["error"] for item in items] == ["", "AssertionError", ""]
    assert items[0].shown["text"] == RIGHT
    assert items[2].shown["reference"] == ROWS[2]["code"]


def test_replies_that_are_cut_are_counted(file):
    items = Code(file=file, count=1).measure(
        subject("def add(a):\n    return a + 1 + (", finish="length"), None
    )
    assert (items[0].values["cut"], items[0].values["pass@1"]) == (1.0, 0.0)


def test_of_several_samples_each_is_run_and_pass_at_k_is_unbiased(file):
    made = Code(file=file, count=1, samples=5, temperature=0.8)
    (item,) = made.measure(subject(RIGHT, WRONG, WRONG, RIGHT, WRONG), None)
    # n 5, c 2: 2 / 5; 1 - C(3, 2) / C(5, 2) = 1 - 3 / 10; all five hold one that passes
    assert {name: item.values[name] for name in ("pass@1", "pass@2", "pass@5")} == pytest.approx(
        {"pass@1": 0.4, "pass@2": 0.7, "pass@5": 1.0}, abs=1e-12
    )
    assert (item.values["samples"], item.values["passed"]) == (5, 2)
    assert item.shown["outcomes"] == {"passed": 2, "exit": 3}
    rows = compare(made.metrics, [item], [item])
    assert [row["name"] for row in rows[:3]] == ["pass@1", "pass@2", "pass@5"]


@pytest.mark.parametrize(("samples", "temperature"), [(0, 1.0), (2, 0.0)])
def test_samples_that_would_be_the_same_are_refused(file, samples, temperature):
    with pytest.raises(UsageError, match="give at least 1, and a temperature above 0"):
        Code(file=file, samples=samples, temperature=temperature)
