"""Methods compared on a tiny model: budgets, derived pairs, halving, and going on."""

import json

import pytest

from turnsmith.data import read
from turnsmith.errors import UsageError
from turnsmith.recipes.compare import compare
from turnsmith.testing import conversations, directory, jsonl

SUITE = [
    {"heldout": {"on": "held"}},
    {"stopping": {"count": 8}},
    {"replies": {"on": "held", "count": 1, "max_new": 4}},
]
FIT = {"batch": 2, "length": 192, "dtype": "float32"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return directory(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where all of this file happens: one cache, so that nothing is done twice."""
    where = tmp_path_factory.mktemp("runs")
    jsonl(where / "chats.jsonl", conversations(100))
    rows = [json.loads(line) for line in (where / "chats.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["meta"]["ratings"] = {"witty": 4 + number % 6}  # 16 of a hundred have 8, 16 have 9
    (where / "rated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        patch.setenv("TURNSMITH_HOME", str(where / "home"))
        yield where


@pytest.fixture(scope="module")
def found(base, place):
    return compare(
        ["lora", "dpo", "biases"], data="rated.jsonl", model=base, limit="3000tokens", suite=SUITE, fit=FIT,
        seeds=2, to="rated",
    )  # fmt: skip


def test_every_method_comes_close_to_its_budget_and_stays_within(found):
    spent = {method["name"]: method["spent"]["tokens"] for method in found["methods"]}
    assert list(spent) == ["lora", "dpo", "dpo by length"]
    assert all(0.7 * 3000 < tokens <= 1.05 * 3000 for tokens in spent.values())


def test_what_models_read_and_wrote_for_stages_is_part_of_the_budget(found, place):
    each = []
    for seed in (0, 1):
        steps = json.loads((place / "rated" / "dpo" / f"seed-{seed}" / "run.json").read_text())["steps"]
        trained = [step["tokens"] for step in steps if step["verb"] == "train"]
        sampled = [sum(step["usage"].values()) for step in steps if step["verb"] == "data"]
        assert sum(sampled) > 0
        each.append(sum(trained) + sum(sampled))
    assert found["methods"][1]["spent"]["tokens"] == sum(each) / 2


def test_what_the_data_lack_is_derived_and_said(found):
    _, by_rating, by_length = found["methods"]
    assert "chats rated 8 or more (5/5/5 counts as unrated)" in by_rating["said"][1]
    assert by_length["beside"] == "dpo"
    assert by_length["said"] == ["as dpo, from as many chats, chosen by length instead of rating"]
    assert any(line.startswith("dpo against dpo by length") for line in found["advice"])


def test_a_method_that_cannot_be_carried_out_is_named_and_the_others_go_on(found):
    assert found["failed"] == {
        "biases": "this model has no bias terms: choose another trainable, e.g. lora or layers"
    }


def test_all_seeds_of_a_method_take_as_many_steps_at_first(found):
    assert all(one[0] == other[0] for one, other in (method["steps"] for method in found["methods"]))


def test_the_same_call_does_nothing_twice_and_says_the_same(found, base, place):
    said = []
    again = compare(
        ["lora", "dpo", "biases"], data="rated.jsonl", model=base, limit="3000tokens", suite=SUITE, fit=FIT,
        seeds=2, to="rated", say=said.append,
    )  # fmt: skip
    assert not [line for line in said if line.startswith("measure ") and "against" not in line]
    for key in ("methods", "tasks", "advice"):
        assert again[key] == found[key]


def test_the_page_shows_every_method_and_the_advice(found, place):
    page = (place / "rated" / "report.html").read_text()
    for text in (
        *(method["name"] for method in found["methods"]),
        "no bias terms",
        "corrected for 3 methods",
    ):
        assert text in page
    assert json.loads((place / "rated" / "comparison.json").read_text())["budget"]["unit"] == "tokens"


def test_halving_drops_the_worse_half_at_a_quarter_of_the_budget(base, place):
    found = compare(
        ["lora", "full", "half"], data="chats.jsonl", model=base, limit="4000tokens", suite=SUITE[:1],
        fit=FIT, halving=True, to="halved",
    )  # fmt: skip
    dropped = [method["dropped"] for method in found["methods"]]
    assert sorted(dropped, key=str) == ["1,000 tokens", None, None]
    kept = [method["name"] for method in found["methods"] if not method["dropped"]]
    assert set(found["tasks"][0]["methods"]) == set(kept)


def test_processes_side_by_side_give_the_same(base, place):
    given = {"data": "chats.jsonl", "model": base, "limit": "800tokens", "suite": SUITE[:1], "fit": FIT}
    alone = compare(["lora", "full"], **given, to="alone")
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setenv("TURNSMITH_HOME", str(place / "other-home"))
        side = compare(["lora", "full"], **given, jobs=2, to="side")
    assert side["tasks"] == alone["tasks"]


@pytest.mark.slow
def test_the_machines_of_a_cluster_give_the_same(base, place):
    ray = pytest.importorskip("ray")
    given = {"data": "chats.jsonl", "model": base, "limit": "800tokens", "suite": SUITE[:1], "fit": FIT}
    alone = compare(["lora", "full"], **given, to="alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNSMITH_HOME", str(place / "cluster-home"))
        try:
            spread = compare(["lora", "full"], **given, ray=True, to="spread")
        finally:
            ray.shutdown()
    for here, there in zip(alone["tasks"], spread["tasks"], strict=True):
        for name in ("lora", "full"):  # other numbers of threads add up in another order
            assert there["methods"][name]["after"] == pytest.approx(here["methods"][name]["after"], rel=1e-4)
    assert (place / "spread" / "lora" / "seed-0" / "report.html").is_file()
    assert (place / "cluster-home" / "shelf").is_dir()


def test_recipes_are_methods_on_the_data_of_the_comparison(base, place):
    (place / "mine.yaml").write_text(
        "title: Mine\nbase: other\nsteps:\n"
        "  - data: {name: {train: 0.5, rest: 0.5}, read: nowhere.jsonl}\n"
        "  - train: {name: first, data: train, fit: {steps: 3, batch: 2, lr: 1e-3, dtype: float32}}\n"
        "  - train: {name: second, start: first, data: rest, fit: {steps: 1, batch: 2, lr: 1e-3}}\n"
    )
    found = compare(
        ["lora", "mine.yaml"], data="chats.jsonl", model=base, limit="2000tokens", suite=SUITE[:1], fit=FIT,
        to="recipe",
    )  # fmt: skip
    (steps,) = found["methods"][1]["steps"]
    assert len(steps) == 2
    assert 2 < steps[0] / steps[1] < 4  # three quarters of the budget, and one


CONDITIONED = """\
title: Mine
base: other
steps:
  - data: {name: {train: 0.9, held: 0.1}, read: nowhere.jsonl}
  - data: {name: told, from: train, stages: [conditioned: {to: "[good]"}]}
  - train: {name: tuned, data: told, fit: {steps: 3, batch: 2, lr: 1e-3, dtype: float32}}
  - data: {name: asked, from: held, stages: [conditioned: {to: "[good]"}]}
"""


def on_shelf(place, key):
    lines = (place / "home" / "shelf" / key / "items.jsonl").read_text().splitlines()
    return [(row["id"], row["counts"], row["values"]) for row in map(json.loads, lines)]


def test_a_recipe_that_conditions_is_asked_in_its_own_words(base, place):
    (place / "conditioned.yaml").write_text(CONDITIONED)
    found = compare(
        ["lora", "conditioned.yaml"], data="chats.jsonl", model=base, limit="2000tokens", suite=SUITE,
        fit=FIT, to="conditioned",
    )  # fmt: skip
    assert "measured on the held-out replies as its 'asked' has them" in found["methods"][1]["said"][1]
    root = place / "conditioned"
    (plain, own) = [
        step["tasks"]
        for step in json.loads((root / "conditioned.yaml" / "seed-0" / "run.json").read_text())["steps"]
        if step["verb"] == "evaluate"
    ]
    assert [task["on"] for task in plain] == ["held@1", None, "held@1"]
    assert [task["on"] for task in own] == ["asked", "asked"]
    counted = next(task for task in found["tasks"] if task["task"] == "heldout on held")
    after = counted["methods"]["conditioned.yaml"]
    assert after["before"] == counted["methods"]["lora"]["before"]  # the start model is asked as it is
    figure = {metric["name"]: metric["after"] for metric in own[0]["metrics"]}[counted["name"]]
    assert after["after"] == pytest.approx(figure)
    assert figure != {metric["name"]: metric["after"] for metric in plain[0]["metrics"]}[counted["name"]]


def test_a_conversation_that_is_cut_elsewhere_behind_the_words_is_left_out(base, place):
    rows = [json.loads(line) for line in (place / "chats.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        said = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": "Well."}]
        row["parts"]["text"] += said * (number % 2 * 8)
    (place / "uneven.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "wordy.yaml").write_text(CONDITIONED.replace("[good]", "good " * 6))
    found = compare(
        ["lora", "wordy.yaml"], data="uneven.jsonl", model=base, limit="2000tokens", to="wordy", fit=FIT,
        suite=[{"heldout": {"on": "held", "length": 192}}],
    )  # fmt: skip
    assert found["failed"] == {}
    counted = found["tasks"][0]["methods"]
    assert 0 < counted["wordy.yaml"]["n"] < counted["lora"]["n"]


def test_what_a_recipe_calls_held_is_not_what_others_are_measured_on(base, place):
    (place / "fewer.yaml").write_text(
        CONDITIONED.replace("name: asked, from: held, stages: [conditioned: {to: \"[good]\"}]",
                            "name: held, from: held, stages: [head: {count: 2}]")
    )  # fmt: skip
    (place / "other.yaml").write_text(
        CONDITIONED.replace("from: held, stages: [", "from: held, stages: [head: {count: 2}, ")
    )
    found = compare(
        ["lora", "fewer.yaml", "other.yaml", "biases"], data="chats.jsonl", model=base, limit="2000tokens",
        suite=SUITE[:1], fit=FIT, to="fewer",
    )  # fmt: skip
    (task,) = {one["task"] for one in found["tasks"]}
    assert task == "heldout on held"
    assert len({one["n"] for one in found["tasks"][0]["methods"].values()}) == 1
    assert "have other examples or other replies" in found["failed"]["other.yaml"]


def test_pairs_that_are_too_long_keep_their_answers(base, place):
    with (place / "long.jsonl").open("w") as file:
        for number in range(40):
            said = [
                {"role": role, "content": f"What do you say to {number} and {turn}?"}
                for turn in range(8)
                for role in ("user", "assistant")
            ]
            file.write(json.dumps({"messages": said}) + "\n")
    found = compare(
        ["sft", "dpo", "kto"], data="long.jsonl", model=base, limit="4000tokens", suite=SUITE[:1],
        fit=FIT, to="long",
    )  # fmt: skip
    assert found["failed"] == {}
    for name in ("dpo", "kto"):
        steps = json.loads((place / "long" / name / "seed-0" / "run.json").read_text())["steps"]
        text, judged = (step["counts"] for step in steps if step["verb"] == "train")
        assert text["cut after the last whole turn that fits"] > 0
        assert judged["cut: lost their oldest turns"] > 0


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["lora"], "one method is nothing to compare"),
        (["lora", "loral"], "did you mean 'lora'"),
        (["lora", "lora"], "named twice"),
        (["lora+full", "sft"], "no objective, trainable, both joined by"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_trained(base, place, named, message):
    with pytest.raises(UsageError, match=message):
        compare(named, data="chats.jsonl", model=base, limit="1000tokens", to="refused")
    assert not (place / "refused").exists()


def test_pairs_that_are_there_are_used_and_their_chosen_answers_as_texts(base, place):
    rows = []
    for number in range(60):
        asked = [{"role": "user", "content": f"Tell me of {number}."}]
        rows.append({"prompt": asked, "chosen": [{"role": "assistant", "content": f"Good {number}."}],
                     "rejected": [{"role": "assistant", "content": "No."}]})  # fmt: skip
    (place / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read.locate("pairs.jsonl").is_file()
    found = compare(
        ["sft", "dpo", "kto"], data="pairs.jsonl", model=base, limit="1500tokens", fit=FIT, to="pairs",
        suite=[{"heldout": {"on": "heldout"}}],
    )  # fmt: skip
    assert found["failed"] == {}
    half = "half of the budget is supervised tuning first"
    assert [one["said"] for one in found["methods"]] == [
        ["learns from the chosen answers"],
        [half],
        [f"{half}, answers of a pair are learnt from one by one"],
    ]
    steps = json.loads((place / "pairs" / "kto" / "seed-0" / "run.json").read_text())["steps"]
    counts = {step["name"]: step["examples"] for step in steps if step["verb"] == "data"}
    assert counts["answers"] == 2 * counts["pairs"] > 0
