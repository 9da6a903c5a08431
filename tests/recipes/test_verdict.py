"""Claims judged from intervals alone."""

import pytest

from turnsmith.recipes.schema import Statement
from turnsmith.recipes.verdict import judge, verdict


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
    ],
)
def test_a_claim_holds_where_the_whole_interval_lies_beyond_its_bound(low, high, direction, by, expected):
    assert verdict(low, high, direction, by) == expected


def measured(low, high, model="tuned", against="base", name="loss"):
    metric = {"name": name, "difference": (low + high) / 2, "low": low, "high": high, "n": 9}
    return {"model": model, "against": against, "tasks": [{"task": "heldout", "metrics": [metric]}]}


def test_a_statement_gets_its_figure_and_verdict():
    claim = Statement(task="heldout", quantity="loss", of="tuned", direction="lower", by=0.5)
    assert judge([claim], [measured(-3, -1)], tiny=False) == [
        {
            "text": "heldout: loss of tuned against base is lower by more than 0.5",
            "bound": 0.5, "difference": -2, "low": -3, "high": -1, "n": 9, "verdict": "holds",
        }
    ]  # fmt: skip


def test_within_says_so():
    claim = Statement(task="heldout", quantity="loss", of="tuned", direction="within", by=0.5)
    (row,) = judge([claim], [measured(-0.1, 0.1)], tiny=False)
    assert row["text"] == "heldout: loss of tuned against base is within 0.5"
    assert row["verdict"] == "holds"


def test_a_tiny_run_is_never_judged_but_has_its_figure():
    claim = Statement(task="heldout", quantity="loss", of="tuned", direction="lower")
    (row,) = judge([claim], [measured(-3, -1)], tiny=True)
    assert (row["verdict"], row["low"]) == ("not judged", -3)


def test_the_newest_measurement_of_the_same_models_counts():
    claim = Statement(task="heldout", quantity="loss", of="tuned", direction="lower")
    steps = [measured(-3, -1), measured(1, 2), measured(-9, -8, model="other"), measured(-9, -8, against="x")]
    (row,) = judge([claim], steps, tiny=False)
    assert (row["low"], row["verdict"]) == (1, "fails")


def test_what_was_not_measured_is_not_judged():
    claim = Statement(task="heldout", quantity="loss", of="tuned", direction="lower")
    (row,) = judge([claim], [measured(-3, -1, name="other")], tiny=False)
    assert row["verdict"] == "not judged"
    assert "difference" not in row
