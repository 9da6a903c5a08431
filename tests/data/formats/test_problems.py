"""Problems with their solutions."""

import pytest

from turnsmith.data.formats.problems import problems
from turnsmith.errors import DataError
from turnsmith.testing import chat


@pytest.mark.parametrize(
    "row",
    [
        {"question": "One and one?", "answer": "Two."},
        {"query": "One and one?", "response": "Two."},
        {"problem": "One and one?", "solution": "Two."},
        {"source": ["One and one?"], "target": ["Two."]},
    ],
)
def test_a_user_asks_and_the_assistant_solves(row):
    assert problems(row).parts == {"text": chat("u: One and one?", "a: Two.")}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"source": ["a", "b"], "target": ["c"]}, "source: a list of 2"),
        ({"source": [], "target": ["c"]}, "source: a list of 0"),
        ({"question": "a", "answer": 3}, "answer"),
        ({"question": "a"}, "question and answer, or query and response"),
    ],
)
def test_what_is_no_problem_is_refused(row, reason):
    with pytest.raises(DataError, match=reason):
        problems(row)
