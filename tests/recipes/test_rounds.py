"""Recipes of several rounds on a tiny model: versions, moving references, merges, and claims over seeds."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from turnsmith.data.render import Renderer
from turnsmith.errors import UsageError
from turnsmith.models import load
from turnsmith.recipes import claims as judging
from turnsmith.recipes import schema, yaml12
from turnsmith.recipes.checking import check
from turnsmith.recipes.start import run
from turnsmith.testing import chat, directory, tokenizer

ROUNDS = """
title: Self-play, small
card: 48
base: BASE
forgetting: false
steps:
  - data: {name: {asks: 0.5, held: 0.5}, stages: [{sums: {count: 24, most: 9}}]}
  - train: {name: policy, data: asks, trainable: full, fit: {steps: 2, batch: 4, lr: 1e-2, dtype: float32}}
  - repeat:
      times: 2
      steps:
        - data: {name: pairs, from: asks, stages: [{respond: {by: policy, max_new: 4}}], keep: 2}
        - train:
            name: policy
            start: policy
            data: pairs
            objective: spin
            trainable: half
            train_on: last
            fit: {steps: 2, batch: 4, lr: 1e-2, dtype: float32}
  - merge: {name: reset, models: [policy], base: policy@1, method: {half_reset: {reset: all}}}
  - evaluate:
      {model: policy, against: policy@1, suite: [{heldout: {on: held}}, {exact: {on: held, max_new: 4}}]}
  - evaluate: {model: reset, against: policy@1, suite: [{heldout: {on: held}}]}
  - evaluate: {model: policy@3, against: policy@2, suite: [{margins: {on: pairs@2}}]}
claim:
  - {task: heldout, quantity: loss, of: policy, against: policy@1, direction: lower}
control: {steps.2.repeat.steps.1.train.fit.lr: 0}
replicates: 2
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return directory(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the runs of this file happen: one cache, so that nothing is done twice."""
    where = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNSMITH_HOME", str(where / "home"))
        patch.chdir(where)
        yield where


@pytest.fixture
def recipe(base, place):
    return yaml12.load(ROUNDS.replace("BASE", str(base)))


@pytest.fixture(scope="module")
def result(base, place):
    """What the recipe came to, run once."""
    (found,) = run(yaml12.load(ROUNDS.replace("BASE", str(base))), name="rounds")
    return found


def steps(result, verb):
    return [step for step in result["steps"] if step["verb"] == verb]


def rows(step, name="metrics.jsonl"):
    return [json.loads(line) for line in (Path(step["path"]) / name).read_text().splitlines()]


def test_each_round_learns_from_its_own_pairs_and_those_of_the_round_before(result):
    asks, first, second = steps(result, "data")
    assert asks["read"] == "made by stages"
    assert (first["sizes"], second["sizes"]) == ({"pairs": 12}, {"pairs": 12})
    assert [train["examples"] for train in steps(result, "train")] == [12, 12, 24]
    one, other = (rows(step, "all.jsonl") for step in (first, second))
    assert [row["parts"]["chosen"] for row in one] == [row["parts"]["chosen"] for row in other]
    assert [row["parts"]["rejected"] for row in one] != [row["parts"]["rejected"] for row in other]


def test_the_opponent_of_a_round_is_the_model_that_it_starts_from(result):
    first, second, third = steps(result, "train")
    assert second["start"] == f"{first['path']}/model"
    assert third["start"] == f"{second['path']}/model"
    for step in (second, third):
        begun = rows(step)[0]
        assert begun["loss"] == pytest.approx(0.693147, abs=1e-5)  # log 2, with fp32 log-probs computed twice
        assert begun["accuracy"] <= 0.5


@torch.no_grad()
def test_the_replies_of_a_round_are_drawn_from_the_model_it_starts_from(result):
    """Their stored log-probs are nearer to that model's than to those of the other round's start."""
    starts = [load.load(step["start"])[0] for step in steps(result, "train")[1:]]
    renderer = Renderer(tokenizer())
    for number, step in enumerate(steps(result, "data")[1:]):
        distance = [0.0, 0.0]
        for row in rows(step, "all.jsonl"):
            *asked, reply = row["parts"]["rejected"]
            prompt = renderer.prompt(chat(*(f"u: {message['content']}" for message in asked)))
            ids, stored = torch.tensor(reply["ids"]), torch.tensor(reply["logprobs"])
            for at, model in enumerate(starts):
                logits = model(input_ids=torch.tensor([[*prompt, *reply["ids"]]])).logits[
                    0, len(prompt) - 1 : -1
                ]
                found = logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]
                distance[at] += float((found - stored).abs().sum())
        assert distance[number] < 0.5 * distance[1 - number]


def test_which_half_learns_changes_from_round_to_round(result):
    weights = [
        {name: p.detach() for name, p in load.load(f"{step['path']}/model")[0].named_parameters()}
        for step in steps(result, "train")
    ]
    moved = [{name for name in one if not one[name].equal(other[name])} for one, other in pairwise(weights)]
    assert all(0 < len(one) < len(weights[0]) for one in moved)
    assert moved[0] != moved[1]


def test_a_merge_is_a_model_like_any_other(result):
    """All reset to the first policy: nothing differs from it."""
    (merged,) = steps(result, "merge")
    assert merged["changed"] > 0
    (loss, *_) = steps(result, "evaluate")[1]["tasks"][0]["metrics"]
    assert loss["difference"] == 0


def test_a_second_run_finds_all_of_it_and_another_seed_draws_other_replies(recipe, result):
    (second,) = run(recipe, name="rounds")
    assert all(step["reused"] for step in second["steps"])
    (other,) = run(recipe, name="rounds", settings={"seed": 1})
    kept, drawn = (steps(one, "data") for one in (result, other))
    assert kept[0]["artefact"] == drawn[0]["artefact"]  # the exercises do not depend on the run's seed
    assert kept[1]["artefact"] != drawn[1]["artefact"]


def test_a_model_that_did_not_move_is_asked_anew_in_the_next_round(recipe):
    (result,) = run(recipe, name="rounds", settings={"steps.2.repeat.steps.1.train.fit.lr": 0})
    _, first, second = steps(result, "data")
    one, other = (rows(step, "all.jsonl") for step in (first, second))
    assert [row["parts"]["rejected"] for row in one] != [row["parts"]["rejected"] for row in other]


def test_a_version_that_was_not_made_is_an_error(recipe):
    recipe["steps"][4]["evaluate"]["model"] = recipe["claim"][0]["of"] = "policy@4"
    with pytest.raises(UsageError, match="policy@4: there are the versions 1 to 3 of 'policy' at this step"):
        run(recipe, name="rounds")


def test_the_recipe_that_was_given_is_left_as_it_was(recipe):
    before = json.dumps(recipe)
    run(recipe, name="rounds", settings={"steps.2.repeat.times": 2, "steps.0.data.seed": 0})
    assert json.dumps(recipe) == before


def test_check_says_what_cannot_be_known_before_a_model_has_written_it(recipe):
    found = check(recipe, name="rounds")["train"]
    assert [(step["name"], "shown" in step) for step in found] == [("policy", True), ("policy", False)]
    assert found[1]["waits"] == "pairs is written by 'policy' (respond) while the recipe runs"


# ------------------------------------------------------------------------------------------- claims


@pytest.fixture
def file(recipe, tmp_path):
    """The recipe as a file; its runs share the cache with all others here."""
    path = tmp_path / "rounds.yaml"
    path.write_text(yaml12.dump(recipe))
    return path


def test_a_claim_is_judged_over_all_seeds_and_beside_its_control(file, tmp_path):
    said = []
    (row,) = judging.claims(file, to=tmp_path / "runs", say=said.append)
    assert [row[name] for name in ("card", "recipe", "method", "baseline", "seeds", "n")] == [
        48, "rounds", "rounds", "policy@1", 2, 12
    ]  # fmt: skip
    assert row["claim"] == "heldout: loss of policy against policy@1 is lower"
    assert row["control"]["interval"] == [0, 0]  # learning rate 0
    assert row["control"]["verdict"] == "undecided"
    assert row["command"] == "turnsmith claims rounds"
    runs = [json.loads(f.read_text()) for f in sorted((tmp_path / "runs/rounds").glob("*/run.json"))]
    assert [run["seed"] for run in runs] == [0, 1, 0, 1]
    figures = [run["claim"][0]["difference"] for run in runs[2:]]
    assert row["figure"] == pytest.approx(sum(figures) / 2)
    assert row["interval"][0] < row["figure"] < row["interval"][1]
    assert row["minutes"] >= 0


def test_only_what_the_claim_speaks_of_is_measured_on_further_seeds(file, tmp_path):
    judging.claims(file, to=tmp_path / "runs")
    measured = {
        name: [
            task["task"]
            for step in json.loads((tmp_path / f"runs/rounds/{name}/run.json").read_text())["steps"]
            for task in step.get("tasks", ())
        ]
        for name in ("seed-0", "seed-1", "control-1")
    }
    assert measured == {
        "seed-0": ["heldout", "exact", "heldout", "margins"],
        "seed-1": ["heldout", "heldout"],
        "control-1": ["heldout", "heldout"],
    }


def test_a_claim_that_the_control_shows_as_well_fails(file, tmp_path):
    plain = yaml12.load(file.read_text())
    plain["claim"][0] |= {"direction": "not higher", "by": 50}
    file.write_text(yaml12.dump(plain))
    (row,) = judging.claims(file, to=tmp_path / "runs")
    assert row["control"]["verdict"] == "holds"
    assert row["verdict"] == "fails"


def test_a_grid_is_judged_arm_by_arm_and_its_seeds_are_the_replicates(file, tmp_path):
    plain = yaml12.load(file.read_text())
    plain |= {"seeds": [5, 6, 7], "replicates": 1, "each": {"steps.2.repeat.steps.1.train.fit.lr": [0, 1e-2]}}
    del plain["control"]
    file.write_text(yaml12.dump(plain))
    still, moved = judging.claims(file, to=tmp_path / "runs")
    assert [still["method"], moved["method"]] == ["rounds lr=0", "rounds lr=0.01"]
    assert [still["seeds"], moved["seeds"]] == [1, 1]
    assert still["figure"] == 0 != moved["figure"]
    assert still["control"] is None


def test_a_tiny_claim_is_not_judged(file, tmp_path):
    (row,) = judging.claims(file, to=tmp_path / "runs", tiny=True)
    assert row["verdict"] == "not judged"


def test_a_recipe_that_claims_nothing_is_an_error(file, tmp_path):
    file.write_text(file.read_text().split("claim:")[0])
    with pytest.raises(UsageError, match=r"rounds.yaml claims nothing: give it a `claim`"):
        judging.claims(file, to=tmp_path / "runs")


def test_new_rows_take_the_place_of_old_ones_of_the_same_recipe(tmp_path):
    file = tmp_path / "results.json"
    judging.record(file, [{"recipe": "b", "card": 2, "figure": 1}, {"recipe": "b", "card": 2, "figure": 2}])
    judging.record(
        file, [{"recipe": "a", "card": 9, "figure": 3}, {"recipe": "q", "card": None, "figure": 5}]
    )
    judging.record(file, [{"recipe": "b", "card": 2, "figure": 4}])
    found = json.loads(file.read_text())
    assert [(row["recipe"], row["figure"]) for row in found] == [("q", 5), ("b", 4), ("a", 3)]


@pytest.mark.parametrize("text", ["{}", "no json"])
def test_a_file_that_holds_no_results_is_left_alone(tmp_path, text):
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"results.json"):
        judging.record(file, [])
    assert file.read_text() == text


def test_work_that_runs_share_counts_once():
    measured = {
        "verb": "evaluate",
        "tasks": [{"measurements": {"a": "k1", "b": "k2"}, "seconds": {"a": 3, "b": 4}}],
    }
    again = {
        "verb": "evaluate",
        "tasks": [{"measurements": {"a": "k1", "c": "k3"}, "seconds": {"a": 3, "c": 5}}],
    }
    train = {"verb": "train", "artefact": "t1", "seconds": 10}
    assert judging.work([[train, measured], [train, again]]) == 10 + 3 + 4 + 5


def test_what_comes_with_turnsmith_and_claims_something_is_found():
    assert {"quickstart", "half", "spin-orders"} <= set(judging.shipped())


# ------------------------------------------------------------------------------------------- the recipe


def test_a_star_in_a_path_stands_for_every_step_that_has_the_key(recipe):
    plain = {"steps": [{"data": {}}, {"train": {"fit": {"lr": 1}}}, {"train": {"fit": {"lr": 2}}}]}
    schema.assign(plain, "steps.*.train.fit.lr", 3)
    assert [step["train"]["fit"]["lr"] for step in plain["steps"][1:]] == [3, 3]
    with pytest.raises(UsageError, match=r"steps.*: steps is no list with an item that has 'merge'"):
        schema.assign(plain, "steps.*.merge.seed", 3)


def test_what_anchors_share_is_set_in_one_place_alone():
    plain = schema.parse("steps: [{fit: &fit {lr: 1}}, {fit: *fit}]", "test")
    plain = schema.unshared(plain)
    schema.assign(plain, "steps.0.fit.lr", 2)
    assert [step["fit"]["lr"] for step in plain["steps"]] == [2, 1]
