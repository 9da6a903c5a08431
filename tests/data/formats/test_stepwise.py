"""Steps that were judged: one answer, whose spans are the steps."""

import pytest

from turnsmith.data.formats.stepwise import stepwise
from turnsmith.errors import DataError
from turnsmith.types import Span

ROW = {"prompt": "9 or 8?", "completions": ["Compare.", "", "8."], "labels": [True, True, False]}


def test_each_step_is_a_span_that_weighs_what_it_was_judged():
    """`Compare.` has 8 characters, the newline after it is number 8, the empty step is at 9, `8.` at 10."""
    asked, said = stepwise(ROW).parts["text"].messages
    assert (asked.role, asked.content, asked.weight) == ("user", "9 or 8?", 0.0)
    assert said.content == "Compare.\n\n8."
    assert said.spans == (Span(0, 8, 1.0), Span(9, 9, 1.0), Span(10, 12, 0.0))


def test_lists_may_stand_in_the_cells_of_a_table():
    row = {"prompt": "9 or 8?", "completions": '["Compare.", "", "8."]', "labels": "[true, true, false]"}
    assert stepwise(row) == stepwise(ROW)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": [True]}, "labels must be a list with one for each of the 3 completions"),
        ({"labels": [True, "+", False]}, r"labels\[1\] must be true or false, not '\+'"),
        ({"completions": []}, "completions must be a list of texts, and not empty"),
        ({"completions": "Compare."}, "completions must be a list of texts"),
    ],
)
def test_steps_that_are_none_are_refused(change, said):
    with pytest.raises(DataError, match=said):
        stepwise({**ROW, **change})
