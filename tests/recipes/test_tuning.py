"""What `tune` chooses: by size and amount, with reasons, as a recipe that checks."""

import json

import pytest

import turnsmith
from turnsmith.errors import UsageError
from turnsmith.recipes import schema, tuning
from turnsmith.registry import Registry
from turnsmith.testing import directory


def chosen(**options):
    given = {"parameters": 135_000_000, "examples": 1000, "objective": "sft", "trainable": "lora"} | options
    given["registry"] = Registry()
    return {choice.name: choice.value for choice in tuning.choose(**given)}


@pytest.mark.parametrize(
    ("parameters", "trainable", "objective", "lr"),
    [
        (135_000_000, "lora", "sft", 5e-4),
        (500_000_000, "lora", "sft", 2e-4),
        (7_000_000_000, "lora", "sft", 2e-4),
        (8_000_000_000, "lora", "sft", 1e-4),
        (135_000_000, "full", "sft", 5e-5),
        (1_000_000_000, "full", "sft", 2e-5),
        (8_000_000_000, "layers", "sft", 1e-5),
        (135_000_000, "biases", "sft", 5e-4),
        (135_000_000, "lora", "dpo", 5e-5),
        (8_000_000_000, "full", "dpo", 1e-6),
        (135_000_000, "bottleneck", "orpo", 5e-5),
        (135_000_000, "half", "spin", 5e-6),
        (135_000_000, "lofit", "ift", 5e-4),
    ],
)
def test_the_learning_rate_goes_by_size_trainable_and_objective(parameters, trainable, objective, lr):
    found = chosen(parameters=parameters, trainable=trainable, objective=objective)
    assert found["fit.lr"] == pytest.approx(lr)


@pytest.mark.parametrize(
    ("examples", "steps"),
    [(1, 10), (20, 10), (100, 38), (499, 187), (500, 125), (4_999, 1250), (5_000, 625), (80_000, 10_000)],
)
def test_few_examples_are_seen_more_often(examples, steps):
    # 3 epochs below 500, 2 below 5000, else 1, in steps of 8, and ten steps at least
    assert chosen(examples=examples)["fit.steps"] == steps


@pytest.mark.parametrize(("examples", "evaluate"), [(1, 5), (499, 18), (80_000, 1000)])
def test_it_is_evaluated_ten_times_and_never_more_often_than_every_five_steps(examples, evaluate):
    assert chosen(examples=examples)["fit.evaluate"] == evaluate


def test_the_rank_is_that_of_the_adapter_to_go_on_with():
    assert chosen()["rank"] == 16
    assert chosen(examples=5_000)["rank"] == 32
    assert chosen(rank=4)["rank"] == 4
    assert "rank" not in chosen(trainable="full")


def test_every_choice_has_a_reason():
    for choice in tuning.choose(
        parameters=10**9, examples=100, objective="dpo", trainable="lora", registry=Registry()
    ):
        assert len(choice.reason) > 10
    first = tuning.choose(
        parameters=10**9, examples=100, objective="dpo", trainable="lora", registry=Registry()
    )[0]
    assert first.reason.startswith("lora on a middle model (1,000 M parameters)")
    assert "a tenth of it for a preference objective" in first.reason


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(UsageError, match="nothing to learn from"):
        chosen(examples=0)


def plain(objective="sft", trainable="lora", **overrides):
    choices = tuning.choose(
        parameters=10**8, examples=1000, objective=objective, trainable=trainable, registry=Registry()
    )
    return tuning.recipe(
        "some/model", "chats.jsonl", name="mine", objective=objective, trainable=trainable, choices=choices,
        overrides=overrides, registry=Registry(),
    )  # fmt: skip


@pytest.mark.parametrize("objective", ["sft", "dpo"])
@pytest.mark.parametrize("trainable", ["lora", "full", "layers", "biases"])
def test_the_recipe_checks(objective, trainable):
    (arm,) = schema.arms(plain(objective, trainable), "tune", Registry())
    train = arm.recipe.steps[1].train
    assert (train.objective.name, train.trainable.name, train.name) == (objective, trainable, "mine")
    assert arm.recipe.steps[0].data.name == {"train": 0.9, "heldout": 0.1}
    assert train.validate_on == "heldout"


def test_what_the_user_says_counts_before_what_is_chosen():
    (arm,) = schema.arms(plain(lr=1.0, length=64), "tune", Registry())
    fit = arm.recipe.steps[1].train.fit
    assert (fit.lr, fit.length, fit.batch) == (1.0, 64, 8)


def test_alpha_is_twice_the_rank():
    assert plain()["steps"][1]["train"]["trainable"] == {"lora": {"rank": 16, "alpha": 32.0}}


def test_a_loss_on_chats_is_measured_only_where_there_are_chats():
    def suite(objective):
        tasks = plain(objective)["steps"][2]["evaluate"]["suite"]
        return [task if isinstance(task, str) else next(iter(task)) for task in tasks]

    assert suite("sft") == ["heldout", "replies", "stopping", "divergence", "abilities"]
    assert suite("ift") == suite("sft")
    assert suite("dpo") == suite("orpo") == ["margins", "stopping", "divergence", "abilities"]


@pytest.mark.parametrize("objective", ["kto", "aot", "bco"])
def test_an_objective_that_looks_ahead_has_its_reference_at_hand(objective):
    (arm,) = schema.arms(plain(objective), "tune", Registry())
    assert arm.recipe.steps[1].train.fit.reference == "live"
    assert plain("dpo")["steps"][1]["train"]["fit"].get("reference") is None


def test_answers_of_pairs_are_learnt_from_one_by_one_where_the_objective_is_over_single_ones(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Tell me of {number}."}],
            "chosen": [{"role": "assistant", "content": f"Good {number}."}],
            "rejected": [{"role": "assistant", "content": "No."}],
        }
        for number in range(30)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = turnsmith.tune(
        directory(tmp_path / "model"), "pairs.jsonl", objective="kto", steps=1, length=128,
        settings={"steps.4.evaluate.suite": [{"margins": {"on": "heldout"}}], "forgetting": False},
    )  # fmt: skip
    steps = json.loads((tmp_path / "runs" / "tuned-on-pairs" / "run.json").read_text())["steps"]
    counts = {step["name"]: step["examples"] for step in steps if step["verb"] == "data"}
    assert counts == {"train+heldout": 30, "answers": 54, "heldout_answers": 6}
    assert found
