"""Rows of results to tables."""

import pytest

from turnsmith.errors import DataError
from turnsmith.report import results

ROW = {
    "card": 19,
    "recipe": "half",
    "method": "half",
    "claim": "less drift than full tuning",
    "figure": -0.12,
    "interval": [-0.2, -0.05],
    "n": 1100,
    "seeds": 3,
    "baseline": "full",
    "verdict": "holds",
    "control": {"figure": 0.01, "interval": [-0.03, 0.05], "verdict": "undecided"},
    "command": "turnsmith claims half",
    "minutes": 21.3,
    "date": "2026-11-22",
    "machine": "2 cores",
}


def test_a_row_in_full():
    head, rule, row = results.table([ROW]).splitlines()
    assert head.count("|") == rule.count("|") == row.count("|") == 12
    assert row == (
        "| `half` | less drift than full tuning | -0.120 [-0.200, -0.050] | full | "
        "+0.010 [-0.030, +0.050]: undecided | 1,100 | 3 | **holds** | `turnsmith claims half` | 21 | "
        "2026-11-22, 2 cores |"
    )


def test_a_row_in_brief():
    assert results.brief([ROW]).splitlines()[2] == (
        "| `half` | less drift than full tuning | -0.120 [-0.200, -0.050] | "
        "+0.010 [-0.030, +0.050]: undecided | **holds** |"
    )


def test_a_claim_that_fails_stays_where_it_is():
    rows = [{**ROW, "method": name, "verdict": verdict} for name, verdict in (("a", "fails"), ("b", "holds"))]
    assert [line.split("`")[1] for line in results.brief(rows).splitlines()[2:]] == ["a", "b"]
    assert "**fails**" in results.brief(rows)


def test_a_row_without_a_control_says_so():
    assert results.brief([{**ROW, "control": None}]).endswith("| none | **holds** |")


def test_a_sign_of_tables_in_a_claim_does_not_end_the_cell():
    assert "a \\| b" in results.table([{**ROW, "claim": "a | b"}])


def test_no_rows_are_said_in_words():
    assert results.table([]) == results.brief([]) == "No claim has been judged yet."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"interval": [0.2, 0.1]}, r"the interval ends before it begins: \[0.2, 0.1\]"),
        ({"interval": [None, None]}, "no number"),
        ({"interval": None}, "the interval must be"),
        ({"figure": float("nan")}, "no number"),
        ({"verdict": "worked"}, "the verdict is holds, fails, undecided, not 'worked'"),
        ({"control": {"figure": 0.0, "interval": [0, 1]}}, "not None"),
    ],
)
def test_a_row_that_cannot_be_right_is_named(change, said):
    with pytest.raises(DataError, match=rf"row 1 of the results \(half, less drift.*{said}"):
        results.table([ROW, {**ROW, **change}])


def test_a_missing_field_is_named():
    with pytest.raises(DataError, match="has no seeds, baseline"):
        results.brief([{key: value for key, value in ROW.items() if key not in ("seeds", "baseline")}])


def test_markers_that_are_missing_or_doubled_are_refused():
    with pytest.raises(DataError, match="needs <!-- x --> and <!-- /x --> once each"):
        results.between("nothing", "x", "new")
    with pytest.raises(DataError, match="once each"):
        results.between("<!-- x --><!-- /x --><!-- x --><!-- /x -->", "x", "new")
