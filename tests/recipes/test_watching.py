"""Tasks that are measured while a model is trained: the points are kept, the training does not notice."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import turnsmith
from turnsmith.errors import UsageError
from turnsmith.models.score import Scoring
from turnsmith.recipes import components, schema
from turnsmith.recipes.watching import undisturbed
from turnsmith.testing import directory, model

WATCH = {"every": 2, "suite": [{"exact": {"on": "asked", "max_new": 3}}, {"mine": {}}]}
MINE = '''
import random

import torch

from turnsmith.evaluation.items import Item, Metric
from turnsmith.registry import task
from turnsmith.types import Conversation, Failure, Message

@task("mine", asks="replies")
class Mine:
    """Draws from every stream there is, and leaves the model in evaluation."""

    title = note = "Mine"
    metrics = (Metric("drawn", "drawn", "share", "higher"),)

    def measure(self, subject, bench):
        assert not subject.scoring.training
        subject.scoring.eval()
        drawn = [float(torch.rand(())), random.random()]
        failed = Item("c", "", {}, failed="no words")
        return [*(Item(str(n), "", {"drawn": value}) for n, value in enumerate(drawn)), failed]
'''


def plain(base, **train):
    fit = {"steps": 3, "batch": 2, "lr": 1e-2, "dtype": "float32", "checkpoint": 1}
    made = {"name": "asked", "stages": [{"sums": {"count": 6, "most": 9}}]}
    step = {"name": "tuned", "data": "asked", "trainable": {"lora": {"rank": 2, "dropout": 0.5}}, "fit": fit}
    steps = [{"data": made}, {"train": {**step, **train}}]
    return {"title": "Watched", "base": str(base), "forgetting": False, "steps": steps}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a model `base`, a task of its own, and a cache of its own."""
    where = tmp_path_factory.mktemp("watching")
    directory(where / "base")
    (where / "mine.py").write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNSMITH_HOME", str(where / "home"))
        patch.chdir(where)
        yield where


@pytest.fixture(scope="module")
def said():
    return []


@pytest.fixture(scope="module")
def watched(place, said):
    (found,) = turnsmith.run(plain("base", watch=WATCH), name="watched", use=["mine.py"], say=said.append)
    return found


@pytest.fixture(scope="module")
def unwatched(place):
    (found,) = turnsmith.run(plain("base"), name="unwatched", use=["mine.py"])
    return found


def file(found, name):
    return Path(found["steps"][-1]["path"]) / name


def points(found):
    return [json.loads(line) for line in file(found, "watch.jsonl").read_text().splitlines()]


def test_the_start_every_so_many_steps_and_the_end_are_measured(watched):
    assert [(row["step"], row["task"], row["on"], row["figure"]) for row in points(watched)] == [
        (step, *task)
        for step in (0, 2, 3)
        for task in (("exact", "asked", "exact answers"), ("mine", None, "drawn"))
    ]


def test_a_point_has_its_value_and_counts(watched):
    exact, mine = points(watched)[:2]
    assert exact["n"] == 6
    assert 0 <= exact["value"] <= 1
    assert exact["replies"] == 6
    assert (mine["n"], mine["failed"]) == (2, 1)
    assert exact["seconds"] > 0


def test_the_trained_bits_are_the_same_with_and_without(watched, unwatched):
    ones, others = (
        load_file(file(found, "model/adapter_model.safetensors")) for found in (watched, unwatched)
    )
    assert ones.keys() == others.keys()
    assert all(torch.equal(ones[name], others[name]) for name in ones)
    assert any(tensor.any() for name, tensor in ones.items() if "lora_B" in name)  # it was trained at all
    metrics = [file(found, "metrics.jsonl").read_bytes() for found in (watched, unwatched)]
    assert metrics[0] == metrics[1]


def test_its_time_is_not_that_of_the_training(watched):
    step = watched["steps"][-1]
    clock = [json.loads(line) for line in file(watched, "clock.jsonl").read_text().splitlines()]
    assert step["seconds"] == pytest.approx(sum(row["seconds"] for row in clock))
    times = {(row["step"], row["task"]): row["seconds"] for row in points(watched)}
    assert step["watch_seconds"] == pytest.approx(sum(times.values()))
    assert watched["cost"]["train_seconds"] == step["seconds"]
    assert watched["cost"]["evaluate_seconds"] == step["watch_seconds"]


def test_the_points_are_told_and_drawn(watched, said):
    assert any(line.strip().startswith("step 2: exact on asked: exact answers 0.") for line in said)
    assert any("step 3: mine: drawn" in line and "1 not answered" in line for line in said)
    page = Path("runs/watched/report.html").read_text("utf-8")
    assert "exact on asked: exact answers" in page
    assert "mine: drawn" in page


def legacy():
    """Where NumPy's global generator is."""
    state = np.random.get_state()  # noqa: NPY002
    return state[1].tolist(), state[2]


def test_random_numbers_and_modes_are_as_before():
    scoring = Scoring(model(dropout=0.5))
    scoring.train()
    frozen = next(scoring.model.children())
    frozen.eval()
    modes = [module.training for module in scoring.modules()]
    before = torch.get_rng_state(), random.getstate(), legacy()
    with undisturbed(scoring):
        assert not any(module.training for module in scoring.modules())
        assert not torch.is_grad_enabled()
        torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002 - a task may
    assert [module.training for module in scoring.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert legacy() == before[2]


# ------------------------------------------------------------------------------------------ what is refused


def refused(suite, every=2):
    given = plain("a/b", watch={"every": every, "suite": suite})
    with pytest.raises(UsageError) as error:
        schema.arms(given, "mine.yaml", components())
    return str(error.value)


def test_a_task_that_asks_for_the_start_is_refused():
    assert "divergence cannot be watched: it asks for stopping of the start model" in refused(["divergence"])


def test_a_task_on_data_that_are_not_there_is_refused():
    assert "no data is called 'nope' before this step" in refused([{"exact": {"on": "nope"}}])


@pytest.mark.parametrize(("suite", "every", "place"), [([], 2, "suite"), (["stopping"], 0, "every")])
def test_nothing_to_watch_is_refused(suite, every, place):
    assert f"steps.1.train.watch.{place}" in refused(suite, every)


def test_a_task_without_a_figure_is_refused_before_the_first_step(place):
    given = plain("base", watch={"every": 1, "suite": [{"replies": {"on": "asked"}}]})
    with pytest.raises(UsageError, match="replies has no figure that could be watched"):
        turnsmith.run(given, name="figureless")
