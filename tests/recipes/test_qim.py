"""A table that is answered from, judged over, and joined by what people rated."""

import json

import pytest

import turnsmith
from turnsmith.data.archive import Archive
from turnsmith.recipes import FOLDER, schema

TABLE = [{"questions": "Where?", "answers": "Here."}, {"questions": "When?", "answers": "Now."}]
RATED = [("rag", 5), ("model", 2), ("model", 4)]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "arithmetic.json").write_text('{"dtype": "float32", "seconds": {}}')


def test_its_tiny_form_measures_what_it_claims_on_a_network():
    plain = schema.parse((FOLDER / "qim.yaml").read_text("utf-8"), "qim")
    plain["tiny"]["base"] = {"llama": {}}
    (found,) = turnsmith.run(plain, tiny=True, name="qim")
    retrieved, paths = ([task for step in found["steps"] for task in step.get("tasks", ())])[::2]
    figures = {row["name"]: row["after"] for row in retrieved["metrics"]}
    assert set(figures) >= {"top-1 by influence", "top-n by influence at 4 levels", "influence less cosine"}
    assert figures["influence less chance"] == pytest.approx(figures["top-1 by influence"] - 1 / 6)
    figures = {row["name"]: row["after"] for row in paths["metrics"]}
    chosen = figures["ROUGE-L of the chosen"]
    assert figures["chosen less model"] == pytest.approx(chosen - figures["ROUGE-L of the model"])
    assert figures["chosen less other"] == pytest.approx(chosen - figures["ROUGE-L of the other"])
    assert [one["verdict"] for one in found["claim"]] == ["not judged"] * 4


def test_answers_that_people_rated_well_join_the_table_and_the_next_training(tmp_path):
    """Of five rows the four that are stored, or rated 4 and better: one epoch learns from them."""
    rows = [
        {"prompt": f"Who {number}?", "answer": "I.", "source": source, "rating": given}
        for number, (source, given) in enumerate(RATED)
    ]
    for name, made in (("faq", TABLE), ("feedback", rows)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    kept = {"rated": {"least": 4, "key": "rating", "untouched": None}}
    feedback = {"name": "table", "read": "feedback.jsonl", "format": "faq", "keep": 2, "stages": [kept]}
    fit = {"epochs": 1, "batch": 4, "lr": 1e-3, "dtype": "float32"}
    steps = [
        {"data": {"name": "table", "read": "faq.jsonl"}},
        {"data": feedback},
        {"train": {"name": "tuned", "data": "table", "fit": fit}},
        {"data": {"name": "joined", "from": "table"}},
    ]
    plain = {"title": "feedback", "base": {"llama": {}}, "forgetting": False, "steps": steps}
    (found,) = turnsmith.run(plain, name="feedback")
    _, _, trained, joined = found["steps"]
    assert trained["steps"] == 1
    (file,) = (tmp_path / "home" / "shelf" / joined["artefact"]).glob("all.jsonl")
    table = Archive([file])
    asked = [one.parts["text"].messages[0].content for one in table]
    assert asked == ["Where?", "When?", "Who 0?", "Who 2?"]
    assert [one.meta.get("source") for one in table] == [None, None, "rag", "model"]
