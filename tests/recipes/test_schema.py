"""Recipes are checked as a whole before anything is loaded: mistakes have their place and way out."""

from copy import deepcopy

import pytest

from turnsmith.errors import UsageError
from turnsmith.recipes import schema
from turnsmith.registry import Registry

SFT = """
title: A test
base: some/model
forgetting: false
steps:
  - data:
      name: {train: 0.8, heldout: 0.2}
      read: chats.jsonl
      stages: [{turns: {least: 4}}, {head: {count: 9}}]
  - train:
      name: tuned
      data: train
      trainable: lora
      fit: {steps: 10, lr: 1e-4}
  - evaluate:
      model: tuned
      suite: [{heldout: {on: heldout}}, abilities]
claim:
  - {task: heldout, quantity: loss, of: tuned, direction: lower}
"""


@pytest.fixture
def plain():
    return schema.parse(SFT, "test.yaml")


def arms(plain, **options):
    return schema.arms(plain, "test.yaml", Registry(), **options)


def recipe(plain, **options):
    (arm,) = arms(plain, **options)
    return arm.recipe


def refused(plain, said, **options):
    with pytest.raises(UsageError, match=said) as error:
        arms(plain, **options)
    assert str(error.value).startswith("test.yaml")


# ------------------------------------------------------------------------------------------ what is read


def test_components_are_names_or_names_with_options(plain):
    found = recipe(plain)
    data, train, evaluate = found.steps
    assert data.data.stages == (
        schema.Component("turns", {"least": 4}),
        schema.Component("head", {"count": 9}),
    )
    assert data.data.names == ("train", "heldout")
    assert train.train.objective == schema.Component("sft", {})
    assert train.train.trainable == schema.Component("lora", {})
    assert train.train.start == "base"
    assert evaluate.evaluate.suite[1] == schema.Component("abilities", {})
    assert evaluate.evaluate.against == "base"


def test_a_component_without_options_may_have_an_empty_place_for_them(plain):
    plain["steps"][1]["train"]["trainable"] = {"full": None}
    assert recipe(plain).steps[1].train.trainable == schema.Component("full", {})


@pytest.mark.parametrize("value", ["2e-5", 2e-5, "0.00002"])
def test_a_number_may_be_written_in_any_way(plain, value):
    plain["steps"][1]["train"]["fit"]["lr"] = value
    assert recipe(plain).steps[1].train.fit.lr == 2e-5


def test_yaml_takes_an_exponent_without_a_point_for_a_number():
    assert schema.parse("lr: 2e-5", "x") == {"lr": 2e-5}
    assert schema.parse("{on: no}", "x") == {"on": "no"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [", "x.yaml is no YAML"), ("- a", "x.yaml must be a mapping"), ("", "must be a mapping")],
)
def test_what_is_no_mapping_is_refused(text, said):
    with pytest.raises(UsageError, match=said):
        schema.parse(text, "x.yaml")


DOUBLED = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DOUBLED, "more than 100,000 values"),
        ("a: " + "[" * 65 + "]" * 65, "more than 64 deep"),
        ("a: &a [*a]", "holds itself"),
        ("a: " + "x" * 2**20, "characters, and at most"),
        ("a: " + "9" * 5000, "4300 digits"),
        ("a: !!int x", "invalid literal"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
    ids=["aliases", "depth", "itself", "length", "digits", "tag", "python"],
)
def test_a_text_that_is_made_to_do_harm_is_refused(text, said):
    with pytest.raises(UsageError, match=f"x.yaml is no YAML: [^$]*{said}"):
        schema.parse(text, "x.yaml")


def test_a_recipe_may_share_what_it_likes_within_reason():
    assert schema.parse("a: &a {b: 1}\nc: [*a, *a]\nd: 2026-11-30", "x") == {
        "a": {"b": 1},
        "c": [{"b": 1}, {"b": 1}],
        "d": "2026-11-30",
    }


# ------------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("titel", "x", r"unknown key titel; did you mean title\?"),
        ("steps.0.data.frmat", "x", r"unknown key steps.0.data.frmat; did you mean format or from\?"),
        ("steps.0.data.form", "x", r"unknown key steps.0.data.form; did you mean format or from\?"),
        ("steps.1.train.fit.lrr", 1, r"unknown key steps.1.train.fit.lrr; did you mean lr\?"),
        ("steps.1.train.qqqq", 1, r"unknown key steps.1.train.qqqq; known are name, data, start, .*fit"),
        ("steps.2.evaluate.models", "x", r"unknown key steps.2.evaluate.models; did you mean model\?"),
        ("claim.0.quantty", "x", r"unknown key claim.0.quantty; did you mean quantity\?"),
        ("steps.1.trane", {}, r"unknown key steps.1.trane; did you mean train\?"),
        ("steps.1.train.fit.batch", 0, r"steps.1.train.fit.*: batch must be above 0, is 0"),
        ("steps.1.train.fit.epochs", 2, r"steps.1.train.fit.*exactly one of steps and epochs"),
        ("steps.1.train.fit.lr", "fast", r"steps.1.train.fit.lr: .*number"),
        ("steps.1.train.objective", ["sft"], r"steps.1.train.objective: expected the name of a component"),
        ("steps.1.train.objective", {"sft": {}, "dpo": {}}, "expected the name of a component"),
        ("steps.1.train.train_on", "most", r"steps.1.train.train_on: .*'assistant', 'last', .* or 'all'"),
        ("steps.0.data.keep", 0, r"steps.0.data.keep: .*greater than or equal to 1"),
        ("steps.0.data.name", {"train": 0, "heldout": 1}, r"steps.0.data.name.*above 0"),
        ("claim.0.direction", "up", r"claim.0.direction: .*'lower', 'higher', .* or 'not higher'"),
        ("steps.1.train.objective", "stf", "no objective is called 'stf'; did you mean 'sft'"),
        ("steps.1.train.trainable", {"lora": {"rnak": 8}}, "has no option 'rnak'; did you mean 'rank'"),
        ("steps.1.train.trainable", {"lora": {"rank": "x"}}, "option 'rank': 'x' is no int"),
        ("steps.0.data.stages", ["head"], "stage 'head' needs the option 'count'"),
        ("steps.0.data.format", "alpacca", "no format is called 'alpacca'; did you mean 'alpaca'"),
        ("steps.2.evaluate.suite", ["heldout"], "task 'heldout' needs the option 'on'"),
        ("steps.2.evaluate.suite", ["abilitys"], "no task is called 'abilitys'; did you mean 'abilities'"),
        ("steps.1.train.data", "chats", "no data is called 'chats' before.*there is heldout, train"),
        ("steps.1.train.validate_on", "chats", "no data is called 'chats' before this step"),
        ("steps.2.evaluate.suite", [{"heldout": {"on": "test"}}], "no data is called 'test' before"),
        ("steps.2.evaluate.model", "tunde", "no model is called 'tunde' before.*there is base,.* tuned"),
        ("steps.1.train.start", "tuned", "no model is called 'tuned' before this step"),
        ("steps.0.data.from", "chats", r"data train\+heldout has both `read` and `from`: leave one out"),
        ("claim.0.task", "abilitys", "the claim on 'abilitys' of 'tuned' is measured by no"),
        ("claim.0.of", "base", "the claim on 'heldout' compares 'base' with itself"),
        ("claim.0.against", "other", "'heldout' of 'other' is measured by no evaluate step"),
        ("claim.0.on", "train", "'heldout' on 'train' of 'tuned' is measured by no evaluate step"),
        ("claim.0.of", ["tuned"], "claim.0.of"),
        ("steps.1.data", {"name": "x", "read": "y"}, r"steps.1: .*exactly one verb, not data and train"),
        ("steps.1", {}, r"steps.1: .*exactly one verb, not none"),
        ("steps.1.repeat", {"times": 2, "steps": []}, r"steps.1: .*exactly one verb, not train and repeat"),
        ("tiny", 3, "tiny: expected a mapping"),
        ("each", ["lr"], "each: expected a mapping"),
        ("each", {"steps.1.train.fit.lr": 1e-4}, "lr: expected a list of values, not 0.0001"),
        ("each", {"steps.1.train.fit.lr": []}, "each.steps.1.train.fit.lr: expected a list of values"),
        ("seeds", 3, "seeds: expected a list of values"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(plain, path, value, said):
    schema.assign(plain, path, value)
    refused(plain, said, tiny=True)


@pytest.mark.parametrize("key", ["title", "base", "steps"])
def test_what_must_be_there_is_named(plain, key):
    del plain[key]
    refused(plain, f"{key}: Field required")


def test_a_model_may_be_a_reference(plain):
    for name in ("smollm2-135m-instruct", "./here", "hub/name", "pypi:x==1/y"):
        plain["steps"][1]["train"]["start"] = name
        assert recipe(plain).steps[1].train.start == name


def test_names_made_in_a_repeat_count(plain):
    inner = {"train": {**plain["steps"][1]["train"], "name": "policy"}}
    plain["steps"][1] = {"repeat": {"times": 2, "steps": [inner]}}
    plain["steps"][2]["evaluate"]["model"] = plain["claim"][0]["of"] = "policy@1"
    assert [step.train.name for step in schema.flat(recipe(plain).steps) if step.train] == ["policy"]


def test_a_mistake_in_a_repeat_has_its_place(plain):
    plain["steps"][1] = {
        "repeat": {"times": 2, "steps": [{"train": {**plain["steps"][1]["train"], "dta": 1}}]}
    }
    refused(plain, r"unknown key steps.1.repeat.steps.0.train.dta; did you mean data\?")


# ------------------------------------------------------------------------------------------------- grids


def test_each_and_seeds_give_one_arm_for_each_combination(plain):
    plain["each"] = {"steps.1.train.fit.lr": [1e-4, 2e-4], "steps.1.train.objective": ["sft"]}
    plain["seeds"] = [0, 7]
    found = arms(plain)
    assert [(a.name, a.recipe.steps[1].train.fit.lr, a.recipe.seed) for a in found] == [
        ("lr=0.0001,objective=sft,seed=0", 1e-4, 0),
        ("lr=0.0001,objective=sft,seed=7", 1e-4, 7),
        ("lr=0.0002,objective=sft,seed=0", 2e-4, 0),
        ("lr=0.0002,objective=sft,seed=7", 2e-4, 7),
    ]


def test_data_may_be_drawn_anew_for_each_seed(plain):
    plain["steps"][0]["data"]["seed"] = "run"
    plain["seeds"] = [3, 7]
    assert [a.recipe.steps[0].data.seed for a in arms(plain)] == [3, 7]
    plain["steps"][0]["data"]["seed"] = 5
    assert [a.recipe.steps[0].data.seed for a in arms(plain)] == [5, 5]


def test_the_tiny_form_may_have_a_grid_of_its_own(plain):
    plain["seeds"], plain["tiny"] = [0, 7], {"seeds": [3]}
    assert [a.recipe.seed for a in arms(plain, tiny=True)] == [3]
    assert [a.recipe.seed for a in arms(plain)] == [0, 7]


def test_without_a_grid_there_is_one_arm_without_a_name(plain):
    before = deepcopy(plain)
    (arm,) = arms(plain)
    assert arm.name == ""
    assert plain == before


def test_a_mistake_in_one_arm_is_found_before_any_runs(plain):
    plain["each"] = {"steps.1.train.objective": ["sft", "stf"]}
    refused(plain, "no objective is called 'stf'")


def test_forgetting_is_measured_where_no_step_says_so(plain):
    plain["steps"] = [step for step in plain["steps"] if "evaluate" not in step]
    plain["forgetting"] = True
    plain.pop("claim")
    *_, last = recipe(plain).steps
    assert [task.name for task in last.evaluate.suite] == ["stopping", "divergence", "abilities"]
    assert (last.evaluate.model, last.evaluate.against) == ("tuned", "base")
    plain["forgetting"] = False
    assert len(recipe(plain).steps) == len(plain["steps"])


def test_forgetting_that_a_step_measures_is_not_measured_twice(plain):
    plain["steps"][-1]["evaluate"]["suite"] = ["stopping", "abilities"]
    plain["forgetting"] = True
    plain.pop("claim")
    assert [task.name for task in recipe(plain).steps[-1].evaluate.suite] == ["divergence"]


def test_tiny_changes_only_tiny_runs(plain):
    plain["tiny"] = {"steps.1.train.fit.steps": 2, "steps.0.data.stages": [{"head": {"count": 3}}]}
    assert recipe(plain).steps[1].train.fit.steps == 10
    tiny = recipe(plain, tiny=True)
    assert tiny.steps[1].train.fit.steps == 2
    assert tiny.steps[0].data.stages == (schema.Component("head", {"count": 3}),)


def test_an_empty_tiny_changes_nothing(plain):
    plain |= {"tiny": None, "each": None, "seeds": None}
    assert recipe(plain, tiny=True).steps[1].train.fit.steps == 10


# ------------------------------------------------------------------------------------------------ assign


def data(plain):
    return plain["steps"][0]["data"]


def train(plain):
    return plain["steps"][1]["train"]


def suite(plain):
    return plain["steps"][2]["evaluate"]["suite"]


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("seed", 3, lambda p: p["seed"]),
        ("steps.1.train.fit.lr", 1, lambda p: train(p)["fit"]["lr"]),
        ("steps.1.train.trainable.lora.rank", 4, lambda p: train(p)["trainable"]["lora"]["rank"]),
        ("steps.0.data.stages.0.turns.least", 2, lambda p: data(p)["stages"][0]["turns"]["least"]),
        ("steps.2.evaluate.suite.1.abilities.every", 5, lambda p: suite(p)[1]["abilities"]["every"]),
        ("steps.2.evaluate.suite.1", "stopping", lambda p: suite(p)[1]),
    ],
)  # fmt: skip
def test_a_path_leads_to_a_value(plain, path, value, where):
    schema.assign(plain, path, value)
    assert where(plain) == value
    recipe(plain)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "stpes.1.train",
            "stpes.1.train: there is no 'stpes' at the top; it has title, base, forgetting, steps, claim",
        ),
        ("steps.9.train", "steps has the indices 0 to 2, not '9'"),
        ("steps.train", "steps has the indices 0 to 2, not 'train'"),
        ("steps.1.data.name", "there is no 'data' at steps.1; it has train"),
        ("title.x", "there is no 'x' at title; it has no keys"),
        ("steps.1.train.trainable.full.x", "there is no 'full' at steps.1.train.trainable"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_with_what_is_there(plain, path, said):
    with pytest.raises(UsageError, match=said):
        schema.assign(plain, path, 1)


# --------------------------------------------------------------------------------------- shipped recipes


@pytest.mark.parametrize("path", sorted(schema.FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("tiny", [False, True], ids=["real", "tiny"])
def test_every_shipped_recipe_checks_in_both_forms(path, tiny):
    plain = schema.parse(path.read_text("utf-8"), str(path))
    for arm in schema.arms(plain, str(path), Registry(), tiny=tiny):
        assert arm.recipe.title
        assert arm.recipe.minutes
        assert arm.recipe.claim
    assert plain["tiny"]


def test_the_quickstart_holds_out_people_and_claims_a_lower_loss():
    plain = schema.parse(schema.find("quickstart").read_text("utf-8"), "quickstart")
    (arm,) = schema.arms(plain, "quickstart", Registry())
    assert arm.recipe.base == "smollm2-135m-instruct"
    assert arm.recipe.steps[0].data.by == "people"
    (claim,) = arm.recipe.claim
    assert (claim.task, claim.of, claim.against, claim.direction) == ("heldout", "tuned", "base", "lower")


def test_a_recipe_is_found_by_name_or_path(tmp_path):
    assert schema.find("quickstart") == schema.FOLDER / "quickstart.yaml"
    (tmp_path / "mine.yaml").write_text(SFT)
    assert schema.find(str(tmp_path / "mine.yaml")) == tmp_path / "mine.yaml"
    with pytest.raises(UsageError, match=r"no recipe is called 'quickstrat'.*did you mean quickstart\?"):
        schema.find("quickstrat")
    with pytest.raises(UsageError, match=r"no recipe at nothing.yaml: there is no such file"):
        schema.find("nothing.yaml")


@pytest.mark.parametrize(("before", "now"), [("cut", "right"), ("error", "fail")])
def test_an_old_word_for_long_conversations_is_refused_with_the_new_one(plain, before, now):
    plain["steps"][1]["train"]["fit"]["over"] = before
    with pytest.raises(UsageError, match=f"train.fit: over: what was '{before}' is now called '{now}'"):
        arms(plain)


def test_an_unknown_word_for_long_conversations_is_refused_with_those_that_there_are(plain):
    plain["steps"][1]["train"]["fit"]["over"] = "trim"
    with pytest.raises(UsageError, match=r"over: .*'fail', 'drop', 'oldest', 'left', 'right' or 'longest'"):
        arms(plain)
