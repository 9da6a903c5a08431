"""An encoder in a recipe: it learns to rank and to rate, and what it cannot do is refused."""

import json
from pathlib import Path

import pytest

import turnsmith
from turnsmith.errors import DataError, ModelError
from turnsmith.models import heads

BASE = {"encoder": {"layers": 1, "hidden": 32, "wide": 64, "heads": 2, "dropout": 0.0}}
FIT = {"batch": 8, "row": 8192, "lr": 3e-3, "dtype": "float32", "warmup": 0.1}
ASKED = [{"agreement": {"on": "held"}}]


def data(name, stage, count, seed=0):
    return {"data": {"name": name, "stages": [{stage: {"count": count}}], "seed": seed}}


def train(name, objective, steps, **more):
    fit = {**FIT, "steps": steps}
    step = {"name": name, "data": "levels", "objective": objective, "trainable": "full", "train_on": "last"}
    return {"train": {**step, "fit": fit, **more}}


def carried_out(steps, tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (found,) = turnsmith.run(
        {"title": "judges", "base": BASE, "forgetting": False, "steps": steps}, name="judges"
    )
    return found["steps"]


def losses(step):
    return [json.loads(line)["loss"] for line in (Path(step["path"]) / "metrics.jsonl").open()]


def test_levels_are_learnt_then_ratings_from_there_and_what_comes_out_judges(tmp_path, monkeypatch):
    near = {"data": "rated", "start": "ranked", "others": {"start": "ranked"}}
    steps = carried_out(
        [
            data("levels", "overlap_levels", 4),
            data("rated", "overlap_ratings", 16, seed=1),
            data("held", "overlap_ratings", 40, seed=2),
            train("ranked", "levels", 30),
            train("near", "rated_near", 2, **near),
            {"evaluate": {"model": "near", "against": "ranked", "suite": ASKED}},
            {
                "evaluate": {
                    "model": "base",
                    "against": None,
                    "suite": [{"agreement": {"on": "held", "by": "words"}}],
                }
            },
        ],
        tmp_path,
        monkeypatch,
    )
    ranked, held = steps[3], steps[4]
    assert heads.sizes(f"{ranked['path']}/model") == {"rating": ("mean", "narrow", 1)}
    assert set(held["others"]) == {"start"}
    first, *_, last = losses(ranked)
    assert first > 1.0  # near 1.2, where all replies have one score
    assert last < 0.6 * first
    assert len(losses(held)) == 2
    for step in steps[5:]:
        assert [row["name"] for row in step["tasks"][0]["metrics"]] == ["pearson", "spearman", "kendall"]
        assert all(-1 <= row["after"] <= 1 and row["n"] == 40 for row in step["tasks"][0]["metrics"])


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (
            [data("levels", "overlap_ratings", 4), train("it", "sft", 1)],
            "is an encoder, which predicts no words",
        ),
        (
            [data("levels", "overlap_levels", 4), train("it", "rwr", 1)],
            "has no value 'reward'",
        ),
        (
            [
                data("levels", "overlap_ratings", 4),
                train("it", "rated_near", 1, others={"start": "base"}),
            ],
            "has no head 'rating' beside it",
        ),
        (
            [
                data("held", "overlap_ratings", 4),
                {"evaluate": {"model": "base", "against": None, "suite": [{"heldout": {"on": "held"}}]}},
            ],
            "is an encoder: it reads and judges",
        ),
        (
            [
                data("held", "overlap_ratings", 4),
                {
                    "evaluate": {
                        "model": "base",
                        "against": None,
                        "suite": [{"replies": {"on": "held", "count": 1}}],
                    }
                },
            ],
            "is an encoder: it reads and judges conversations, and answers none",
        ),
    ],
)
def test_what_an_encoder_cannot_do_is_refused(tmp_path, monkeypatch, steps, reason):
    with pytest.raises((ModelError, DataError), match=reason):
        carried_out(steps, tmp_path, monkeypatch)
