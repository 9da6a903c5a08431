"""What is recommended, and what is not, from figures that are given."""

import pytest

from turnsmith.evaluation.items import Item, Metric
from turnsmith.recipes.advice import Figures, gain, judged

LOSS = Metric("loss", "nats", "nats", "lower")
RIGHT = Metric("right by generation", "right", "share", "higher")
BUDGET = {"unit": "seconds", "amount": 100.0}
NOISE = (0.02, -0.01, 0.0, 0.01, -0.02, 0.03, -0.03, 0.015, -0.015, 0.0)  # they sum to nothing


def items(mean, turn=0):
    """Forty items whose values vary about a mean, in another order for each `turn`."""
    return [Item(str(n), "", {"nats": mean + NOISE[(n + turn) % 10]}) for n in range(40)]


def right(share):
    return [Item(str(n), "", {"right": float(n < 40 * share)}) for n in range(40)]


def figures(**methods):
    """methods: (loss after, share of right answers after), from 2.0 and 0.8 before."""
    runs = {name: [{"of": name}] for name in methods}

    def find(run, task):
        loss, share = methods[run["of"]]
        if task == "heldout":
            return items(2.0), items(loss, turn=1 + list(methods).index(run["of"]))
        return right(0.8), right(share)

    return Figures(tuple(methods), runs, {"heldout": (LOSS,), "abilities": (RIGHT,)}, find)


def rows(*names, beside=(), **spent):
    return [
        {
            "name": name,
            "beside": dict(beside).get(name),
            "dropped": None,
            "spent": {"seconds": spent.get(name, 100.0)},
            "peak_memory_gib": 2.0 + number,
        }
        for number, name in enumerate(names)
    ]


def test_gain_is_how_far_the_first_figure_moved_to_the_better_side():
    assert gain(figures(a=(1.5, 0.8)), "a") == pytest.approx(0.5)
    assert gain(figures(a=(2.25, 0.8)), "a") == pytest.approx(-0.25)


def test_the_method_that_is_ahead_of_all_others_is_taken():
    found = judged(rows("a", "b"), figures(a=(1.5, 0.8), b=(1.2, 0.8)), BUDGET)
    assert found.against_best["best"] == "b"
    assert found.against_best["others"]["a"]["verdict"] == "worse"
    assert found.words[0].startswith("Take b. b gains most: loss 2.000 -> 1.200, -0.800 [")
    assert found.words[0].endswith("ahead of every other method.")


def test_what_is_level_with_it_and_not_shown_to_be_better_than_the_start_is_named():
    runs = {"a": [{"loss": 1.0}, {"loss": 2.0}], "b": [{"loss": 1.40}, {"loss": 1.41}]}
    found = Figures(
        ("a", "b"), runs, {"heldout": (LOSS,)}, lambda run, task: (items(2.0), items(run["loss"], 1))
    )
    said = judged(rows("a", "b"), found, BUDGET).words[0]
    assert said.startswith("Take b. b gains most: loss 2.000 -> 1.405")
    assert said.endswith(
        "it cannot be told apart from a, none of which is shown to be better than the start."
    )


def test_what_the_method_lost_is_said_beside_what_it_gained():
    words = judged(rows("a", "b"), figures(a=(1.5, 0.8), b=(1.2, 0.2)), BUDGET).words
    assert words[1].startswith("What b pays for it: right by generation 0.800 -> 0.200, -0.600 [")


def test_of_methods_that_gain_alike_the_one_that_keeps_more_is_taken():
    words = judged(rows("a", "b"), figures(a=(1.5001, 0.8), b=(1.5, 0.3)), BUDGET).words
    assert "cannot be told apart from a" in words[0]
    assert words[1] == (
        "Take a: of these it keeps most, by right by generation: 0.800 (0.800 before), against b 0.300."
    )


def test_where_they_keep_alike_as_well_the_one_that_needs_less_memory_is_taken():
    words = judged(rows("a", "b"), figures(a=(1.5001, 0.8), b=(1.5, 0.8)), BUDGET).words
    assert words[1].endswith("Take a: it needs the least memory (2.0 GiB).")


def test_nothing_is_recommended_where_nothing_is_better_than_the_start():
    words = judged(rows("a", "b"), figures(a=(2.0, 0.8), b=(2.3, 0.8)), BUDGET).words
    assert words[0].startswith("None of the methods is better than the start model by loss: a ")
    assert words[1].startswith("So nothing is recommended")
    assert not any(line.startswith("Take") for line in words)


@pytest.mark.parametrize(
    ("by_length", "told"),
    [(1.5, "the length of the rated chats alone"), (1.9, "ratings tell more than length")],
)
def test_what_goes_by_ratings_is_held_against_what_goes_by_length(by_length, told):
    given = rows("dpo", "dpo by length", beside={"dpo by length": "dpo"})
    words = judged(given, figures(**{"dpo": (1.5, 0.8), "dpo by length": (by_length, 0.8)}), BUDGET).words
    (line,) = [line for line in words if line.startswith("dpo against dpo by length")]
    assert told in line


def test_a_baseline_is_never_recommended():
    given = rows("dpo", "dpo by length", beside={"dpo by length": "dpo"})
    found = judged(given, figures(**{"dpo": (1.5001, 0.8), "dpo by length": (1.5, 0.8)}), BUDGET)
    assert [line for line in found.words if "Take dpo by length" in line] == []


def test_who_spent_more_or_less_is_named():
    words = judged(rows("a", "b", b=140.0), figures(a=(1.5, 0.8), b=(1.2, 0.8)), BUDGET).words
    assert words[-1] == "Of the budget was spent: b 140%; the others came close to it."


def test_every_figure_is_there_for_every_method():
    found = judged(rows("a", "b"), figures(a=(1.5, 0.8), b=(1.2, 0.6)), BUDGET)
    assert [(task["task"], task["name"]) for task in found.tasks] == [
        ("heldout", "loss"), ("abilities", "right by generation"),
    ]  # fmt: skip
    assert found.tasks[1]["methods"]["b"]["difference"] == pytest.approx(-0.2)
    assert found.tasks[1]["methods"]["b"]["n"] == 40
