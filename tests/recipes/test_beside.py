"""Self-training as a recipe: data beside those that are learnt, and students that start anew."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import turnsmith
from turnsmith.errors import DataError, UsageError

WORDS = {"words": {"0": "bad", "1": "good"}}
FIT = {"steps": 4, "batch": 2, "length": 128, "lr": 1e-2, "dtype": "float32"}
ADAPTERS = {"bottleneck": {"size": 2}}


def data(name, *stages, **keys):
    return {"data": {"name": name, "stages": list(stages), **keys}}


def train(name, data="taught", objective="verbalised", start="base", **keys):
    step = {
        "name": name,
        "data": data,
        "objective": objective,
        "start": start,
        "trainable": ADAPTERS,
        "fit": FIT,
    }
    return {"train": {**step, **keys}}


def recipe(*steps, few=4):
    texts = data("texts", {"opinions": {"count": 12}})
    labelled = data("labelled", {"few": {"count": few}}, {"labelled": WORDS}, **{"from": "texts"})
    pool = data("pool", {"few": {"count": few, "side": "rest"}}, {"labelled": WORDS}, **{"from": "texts"})
    base = {"llama": {"layers": 2, "hidden": 32, "wide": 64}}
    return {
        "title": "Mine",
        "base": base,
        "forgetting": False,
        "steps": [texts, labelled, pool, train("model", "labelled"), *steps],
    }


TAUGHT = data(
    "taught",
    {"pseudo_labelled": {"by": {"likelihood": {"by": "model"}}}},
    {"mislabelled": {"share": 0.5}},
    **{"from": "pool"},
)
STUDENT = train("model", objective={"reweighted": {"after": 0.5}}, beside={"labelled": "labelled"})
FINISHED = train("model", "labelled", start="model")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, home):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(home))
    return tmp_path


def run(plain, to="run"):
    (found,) = turnsmith.run(plain, name="mine", to=to)
    return found["steps"]


def parts(step):
    return load_file(Path(step["path"], "model", "adapter.safetensors"))


def examples(step):
    (file,) = (file for file in Path(step["path"]).glob("*.jsonl") if "index" not in file.name)
    return [json.loads(line) for line in file.open()]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            train("student", objective="reweighted"),
            "'reweighted' needs further data, which it calls 'labelled'",
        ),
        (train("student", beside={"labelled": "labelled"}), "speaks of no further data, not of 'labelled'"),
        (
            train("student", objective="reweighted", beside={"labelled": "labelled", "more": "pool"}),
            "speaks only of 'labelled', not of 'more'",
        ),
        (
            train("student", objective="reweighted", beside={"labelled": "nobody"}),
            "no data is called 'nobody'",
        ),
        (
            {"evaluate": {"model": "model", "suite": [{"weighed": {"on": "taught", "labelled": "nobody"}}]}},
            "no data is called 'nobody'",
        ),
    ],
)
def test_what_is_beside_is_checked_before_anything_is_done(step, said):
    with pytest.raises(UsageError, match=said):
        run(recipe(TAUGHT, step))


def test_sessions_teach_students_that_start_anew_and_go_on_with_true_labels():
    suite = [{"weighed": {"on": "taught", "labelled": "labelled"}}, {"classified": {"on": "pool"}}]
    measured = {"evaluate": {"model": "model", "against": "model@1", "suite": suite}}
    sessions = {"repeat": {"times": 2, "steps": [TAUGHT, STUDENT, FINISHED]}}
    steps = run(recipe(sessions, measured))
    teacher, first, finished, second, _ = [one for one in steps if one["verb"] == "train"]
    assert first["start"] == second["start"] == teacher["start"]  # the base
    assert finished["start"].startswith(first["path"])
    assert first["steps"] == 4
    one, other = [one for one in steps if one.get("name") == "taught"]
    assert [row["id"] for row in examples(one)] == [row["id"] for row in examples(other)]
    assert examples(one) != examples(other)  # the second session's teacher is another model
    for row in examples(one):
        assert sum(row["values"]["target"]) == pytest.approx(1)
        assert row["meta"]["class"] == row["meta"]["label"]
    names = [task["task"] for task in steps[-1]["tasks"]]
    assert names == ["weighed", "classified"]


def test_check_7_without_an_unlabelled_text_there_is_no_session_and_that_is_said():
    with pytest.raises(DataError, match=r"the stage few \(count 12, side rest\) left none of 12 examples"):
        run(recipe(TAUGHT, STUDENT, few=12))


def test_check_6_a_student_does_not_start_from_its_teachers_weights():
    still = {**FIT, "steps": 1, "lr": 0.0}
    steps = run(recipe(TAUGHT, train("model", fit=still), train("again", "labelled", fit=still)))
    teacher, student, again = (parts(one) for one in steps if one["verb"] == "train")
    for name, weight in student.items():
        assert not torch.isclose(weight, teacher[name], atol=1e-4).all()
        assert weight.std().item() == pytest.approx(0.02, rel=0.5)
        assert not torch.equal(weight, again[name])  # another version, another start


def test_other_data_beside_make_another_model_and_the_same_make_none():
    once = run(recipe(TAUGHT, STUDENT))
    twice = run(recipe(TAUGHT, STUDENT), to="again")
    assert [one["reused"] for one in twice] == [True] * 5 + [True]
    more = data("labelled", {"opinions": {"count": 6}}, {"labelled": WORDS}, seed=3)
    other = run(recipe(TAUGHT, more, STUDENT), to="other")
    assert other[-1]["artefact"] != once[-1]["artefact"]
    assert not other[-1]["reused"]
