"""Claims judged from intervals alone."""

import json
from dataclasses import asdict

import pytest

from turnsmith.evaluation.items import Item, Metric, compare
from turnsmith.recipes.schema import Statement
from turnsmith.recipes.verdict import judge, verdict
from turnsmith.shelf import Shelf, write_text

LOSS = Metric("loss", "nats", "nats per token", "lower", "tokens")


@pytest.mark.parametrize(
    ("low", "high", "direction", "by", "expected"),
    [
        (-3, -2, "lower", 0, "holds"),
        (-3, -2, "lower", 1, "holds"),
        (-3, -2, "lower", 2, "undecided"),  # -2 itself is not more than 2 lower
        (-3, -2, "lower", 2.5, "undecided"),
        (-3, -2, "lower", 4, "fails"),
        (-3, 1, "lower", 0, "undecided"),
        (1, 2, "lower", 0, "fails"),
        (1, 2, "higher", 0, "holds"),
        (1, 2, "higher", 1.5, "undecided"),
        (1, 2, "higher", 3, "fails"),
        (-2, -1, "higher", 0, "fails"),
        (-1, 1, "within", 2, "holds"),
        (-1, 1, "within", 1, "undecided"),
        (-1, 3, "within", 2, "undecided"),
        (3, 4, "within", 2, "fails"),
        (-4, -3, "within", 2, "fails"),
        (-1, 0.4, "not higher", 0.5, "holds"),
        (-1, 0.5, "not higher", 0.5, "undecided"),
        (0.6, 2, "not higher", 0.5, "fails"),
        (-0.4, 1, "not lower", 0.5, "holds"),
        (-2, -0.6, "not lower", 0.5, "fails"),
        (-2, 1, "not lower", 0.5, "undecided"),
    ],
)
def test_a_claim_holds_where_the_whole_interval_lies_beyond_its_bound(low, high, direction, by, expected):
    assert verdict(low, high, direction, by) == expected


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


def measure(shelf, key, nats):
    """A measurement on the shelf: so many nats for each item, of two tokens."""
    items = [Item(str(number), "", {"nats": value, "tokens": 2.0}) for number, value in enumerate(nats)]

    def make(directory):
        write_text(directory / "items.jsonl", "\n".join(json.dumps(asdict(item)) for item in items) + "\n")
        return {}

    shelf.obtain(key, make)
    return items


def step(shelf, on="heldout", **models):
    """An evaluate step's record: what each of two models measured, by name."""
    kept = {name: measure(shelf, f"{on}-{name}-{nats}", nats) for name, nats in models.items()}
    first, second = kept.values()
    keys = {name: f"{on}-{name}-{nats}" for name, nats in models.items()}
    metrics = compare([LOSS], first, second)
    return {
        "verb": "evaluate",
        "tasks": [{"task": "heldout", "on": on, "measurements": keys, "metrics": metrics}],
    }


def claim(**given):
    return Statement(**{"task": "heldout", "quantity": "loss", "of": "tuned", "direction": "lower", **given})


def test_a_statement_gets_its_figure_and_verdict(shelf):
    steps = [step(shelf, base=[8.0] * 9, tuned=[4.0] * 9)]
    assert judge([claim(by=0.5)], [steps], shelf) == [
        {
            "text": "heldout: loss of tuned against base is lower by more than 0.5",
            "bound": 0.5, "difference": -2, "low": -2, "high": -2, "n": 9, "seeds": 1, "verdict": "holds",
            "left_out": 0, "note": "",
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"direction": "within", "by": 0.5}, "heldout: loss of tuned against base is within 0.5"),
        (
            {"direction": "not higher", "by": 0.5},
            "heldout: loss of tuned against base is not higher by more than 0.5",
        ),
        ({"on": "heldout"}, "heldout on heldout: loss of tuned against base is lower"),
    ],
)
def test_a_statement_is_said_in_words(shelf, given, said):
    (row,) = judge([claim(**given)], [[step(shelf, base=[1.0] * 9, tuned=[0.9] * 9)]], shelf)
    assert row["text"] == said
    assert row["verdict"] == "holds"


def test_a_figure_may_be_held_against_0(shelf):
    steps = [step(shelf, base=[1.0] * 9, tuned=[4.0] * 9)]
    (row,) = judge([claim(against=None, direction="higher", by=1.5)], [steps], shelf)
    assert row["text"] == "heldout: loss of tuned against 0 is higher by more than 1.5"
    assert (row["difference"], row["low"], row["verdict"]) == (2, 2, "holds")  # 4 nats of two tokens
    assert claim(against=None).models == ("tuned",)


def test_a_tiny_run_is_never_judged_but_has_its_figure(shelf):
    (row,) = judge([claim()], [[step(shelf, base=[8.0] * 9, tuned=[4.0] * 9)]], shelf, tiny=True)
    assert (row["verdict"], row["low"]) == ("not judged", -2)


def test_fewer_than_eight_items_decide_nothing(shelf):
    (row,) = judge([claim()], [[step(shelf, base=[8.0] * 7, tuned=[4.0] * 7)]], shelf)
    assert row["verdict"] == "undecided"


def test_the_newest_measurement_of_the_same_models_counts(shelf):
    steps = [
        step(shelf, base=[8.0] * 9, tuned=[4.0] * 9),
        step(shelf, base=[8.0] * 9, tuned=[9.0] * 9),
        step(shelf, base=[8.0] * 9, other=[1.0] * 9),
    ]
    (row,) = judge([claim()], [steps], shelf)
    assert (row["low"], row["verdict"]) == (0.5, "fails")


def test_on_says_which_of_two_data(shelf):
    steps = [
        step(shelf, on="first", base=[8.0] * 9, tuned=[4.0] * 9),
        step(shelf, on="second", base=[8.0] * 9, tuned=[9.0] * 9),
    ]
    verdicts = [judge([claim(on=on)], [steps], shelf)[0]["verdict"] for on in ("first", "second")]
    assert verdicts == ["holds", "fails"]


def test_two_models_on_a_side_mean_the_change_between_them(shelf):
    """What each forgot: half goes from 2 to 3, full from 1 to 4; a token has half of it. (1 - 3) / 2 = -1."""
    steps = [
        step(shelf, half_1=[2.0] * 9, full_1=[1.0] * 9),
        step(shelf, half_2=[3.0] * 9, full_2=[4.0] * 9),
    ]
    (row,) = judge([claim(of=["half_2", "half_1"], against=["full_2", "full_1"])], [steps], shelf)
    assert (row["difference"], row["verdict"]) == (-1, "holds")
    assert row["text"] == "heldout: loss of half_2 since half_1 against full_2 since full_1 is lower"


def test_several_runs_give_one_figure_that_covers_their_differences(shelf):
    runs = [[step(shelf, base=[8.0] * 9, tuned=[tuned] * 9)] for tuned in (4.0, 6.0, 9.0)]
    (row,) = judge([claim()], runs, shelf)
    assert row["difference"] == pytest.approx((-2 - 1 + 0.5) / 3)
    # -2, -1 and 0.5: standard error sqrt(3.1667 / 2 / 3) = 0.72648, Student's t on 2 degrees 4.3027.
    assert (row["low"], row["high"]) == pytest.approx((-0.8333 - 3.1258, -0.8333 + 3.1258), abs=1e-3)
    assert (row["seeds"], row["verdict"]) == (3, "undecided")


def test_a_claim_may_be_about_the_figure_of_a_reducer(shelf):
    """Its interval is had anew from the items: the record says by what."""
    told = step(shelf, base=[8.0] * 9, tuned=[4.0] * 9)
    told["tasks"][0]["metrics"][0] |= {"reduce": "ratio", "size": None, "others": ["tokens"]}
    (row,) = judge([claim()], [[told]], shelf)
    assert (row["difference"], row["verdict"]) == (-2, "holds")


def test_the_record_of_an_older_run_is_still_judged(shelf):
    told = step(shelf, base=[8.0] * 9, tuned=[4.0] * 9)
    for name in ("reduce", "others"):
        del told["tasks"][0]["metrics"][0][name]
    assert judge([claim()], [[told]], shelf)[0]["verdict"] == "holds"


@pytest.mark.parametrize(
    "given", [{"quantity": "other"}, {"of": "other"}, {"on": "other"}, {"task": "replies"}]
)
def test_what_was_not_measured_is_not_judged(shelf, given):
    (row,) = judge([claim(**given)], [[step(shelf, base=[8.0] * 9, tuned=[4.0] * 9)]], shelf)
    assert row["verdict"] == "not judged"
    assert "difference" not in row


def test_a_run_without_the_measurement_leaves_the_claim_open(shelf):
    (row,) = judge([claim()], [[step(shelf, base=[8.0] * 9, tuned=[4.0] * 9)], []], shelf)
    assert row["verdict"] == "not judged"
