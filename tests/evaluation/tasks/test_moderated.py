"""What a guard ranks and flags, with a model whose shares are given."""

import pytest

from turnsmith.errors import DataError, ModelError, UsageError
from turnsmith.evaluation.alone import alone
from turnsmith.evaluation.tasks import moderated as module
from turnsmith.evaluation.tasks.moderated import Moderated, ModeratedEach
from turnsmith.registry import Registry
from turnsmith.testing import TASK, TinyBench, chat, task
from turnsmith.types import Example

POLICY = {"Violence": "", "Insults": "", "Bets": ""}


def example(name, *violated, **meta):
    return Example({"text": chat(f"u: text {name}")}, {}, {"id": name, "violated": list(violated), **meta})


DATA = [
    example("a", "Violence"),
    example("b", "Insults", "Bets"),
    example("c"),
    example("d", "Arson"),  # of no category of the policy
    example("e", *POLICY),
    example("f", unlabelled=["Bets"]),
    example("g", "Insults"),
]
# Of each text: its share under the whole policy, and under what it does not violate.
SHARES = {
    "a": (0.9, 0.2),
    "b": (0.6, 0.7),
    "c": (0.8, None),
    "d": (0.1, None),
    "e": (0.3, None),
    "f": (0.0, None),
    "g": (0.2, 0.1),  # flagged neither way
}


@pytest.fixture
def bench(monkeypatch):
    def given(scoring, renderer, layout, asked, *, row):
        found = []
        for one in asked:
            text = one.messages[0].content
            name = text.split("User: text ")[1][0]
            whole, less = SHARES[name]
            found.append(whole if all(f": {category}." in text for category in POLICY) else less)
        return found

    monkeypatch.setattr(module, "unsafe_shares", given)
    return TinyBench({"texts": DATA})


def items(bench, **options):
    return {
        one.id: one for one in Moderated(on="texts", policy=POLICY, **options).measure(bench.tuned, bench)
    }


def test_an_example_is_unsafe_by_the_policy_and_says_how_it_is_flagged(bench):
    found = {name: dict(one.values) for name, one in items(bench).items()}
    assert found == {
        "a": {"share": 0.9, "label": 1.0, "found": 1.0, "follows": 1.0, "still": 0.0},
        "b": {"share": 0.6, "label": 1.0, "found": 1.0, "follows": 0.0, "still": 1.0},
        "c": {"share": 0.8, "label": 0.0, "alarm": 1.0},
        "d": {"share": 0.1, "label": 0.0, "alarm": 0.0},
        "e": {"share": 0.3, "label": 1.0, "found": 0.0},  # nothing is left of the policy without it
        "f": {"share": 0.0, "label": 0.0, "alarm": 0.0},
        "g": {"share": 0.2, "label": 1.0, "found": 0.0, "follows": 0.0, "still": 0.0},
    }


def figures(bench, **options):
    made = Moderated(on="texts", policy=POLICY, **options)
    return {row["name"]: row for row in alone(made.metrics, made.measure(bench.tuned, bench))}


def test_figures_by_hand(bench):
    found = {name: row["after"] for name, row in figures(bench).items()}
    # a is first, c is wrong, b, e and g follow it.
    assert found == {
        "AUPRC": pytest.approx((1 + 2 / 3 + 3 / 4 + 4 / 5) / 4),
        "follows the policy": pytest.approx(1 / 3),
        "flagged though allowed": pytest.approx(1 / 3),
        "unsafe that is flagged": 0.5,
        "safe that is flagged": pytest.approx(1 / 3),
    }


def test_the_baseline_stands_beside_and_its_figure_is_taken_off(bench):
    def letters(asked, examples):
        return [{"a": 1.0, "b": 0.9, "e": 0.8, "g": 0.7}.get(one.id, 0.0) for one in examples]

    assert figures(bench, baseline=letters)["AUPRC above the baseline's"]["after"] == pytest.approx(
        (1 + 2 / 3 + 3 / 4 + 4 / 5) / 4 - 1
    )


def test_a_baseline_that_cannot_judge_is_named(bench):
    with pytest.raises(ModelError, match="the baseline cannot judge example 'a'"):
        items(bench, baseline=lambda asked, examples: [None] * len(asked))


def test_check_1_a_threshold_of_0_flags_everything_and_cannot_be_followed(bench):
    found = items(bench, threshold=0.0)
    assert {one.values.get("found", one.values.get("alarm")) for one in found.values()} == {1.0}
    assert found["a"].values["follows"] == 0.0
    with pytest.raises(UsageError, match="threshold is 2"):
        items(bench, threshold=2.0)


def each(bench, **options):
    made = ModeratedEach(on="texts", policy=POLICY, **options)
    return made, made.measure(bench.tuned, bench)


@pytest.fixture
def by_one(monkeypatch):
    """Shares of questions that list one category: by the text alone."""
    shares = dict(zip("abcdefg", (0.9, 0.6, 0.8, 0.1, 0.3, 0.0, 0.2), strict=True))

    def given(scoring, renderer, layout, asked, *, row):
        for one in asked:
            assert sum(f": {category}." in one.messages[0].content for category in POLICY) == 1
        return [shares[one.messages[0].content.split("User: text ")[1][0]] for one in asked]

    monkeypatch.setattr(module, "unsafe_shares", given)
    return TinyBench({"texts": DATA})


def test_one_category_stands_against_all_and_against_what_violates_nothing(by_one):
    made, found = each(by_one, categories=("Violence", "Bets"))
    rows = {
        row["name"]: {one["name"]: one["after"] for one in row["groups"]}
        for row in alone(made.metrics, found)
    }
    # Violence is a and e. All: a, c, b, e, g, d, f; benign: a, c, e, d, f.
    # Bets is b and e, and of f nobody knows. All: a, c, b, e, g, d; benign: c, b, e, d.
    assert rows == {
        "AUPRC against all": {
            "Violence": pytest.approx((1 + 2 / 4) / 2), "Bets": pytest.approx((1 / 3 + 2 / 4) / 2)
        },
        "AUPRC against benign": {
            "Violence": pytest.approx((1 + 2 / 3) / 2), "Bets": pytest.approx((1 / 2 + 2 / 3) / 2)
        },
    }  # fmt: skip


def test_what_was_not_labelled_does_not_count_for_its_category(by_one):
    ids = [one.id for one in each(by_one, categories=("Bets",))[1]]
    assert ids == ["a:Bets", "b:Bets", "c:Bets", "d:Bets", "e:Bets", "g:Bets"]


def test_a_category_that_nothing_violates_is_named():
    bench = TinyBench({"texts": DATA[2:4]})
    with pytest.raises(DataError, match="0 of 2 examples of 'texts' violate 'Violence'"):
        each(bench)


@pytest.mark.parametrize("check", TASK, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["moderated", "moderated_each"])
def test_contract(name, check):
    check(task(name, {"on": "texts", "policy": POLICY}, registry=Registry()), TinyBench({"texts": DATA}))
