"""Who was served, by hand."""

import pytest

from turnsmith.errors import DataError
from turnsmith.scorers.shop import served
from turnsmith.testing import chat
from turnsmith.types import Example

TEA = Example({}, {}, {"id": "one", "wish": "tea", "other": "jam"})


@pytest.mark.parametrize(
    ("said", "score"),
    [
        (["u: hello", "a: tea"], 1.0),
        (["u: hello", "a: jam"], 0.0),
        (["u: hello", "a: tea", "u: yes", "a: jam"], 0.0),  # the last answer counts
        (["u: hello", "a: which?", "u: tea", "a: tea ", "u: yes"], 1.0),
        (["u: tea"], None),
    ],
)
def test_the_last_answer_is_what_is_wanted_or_not(said, score):
    assert served([chat(*said)], [TEA]) == [score]


def test_what_is_wanted_stands_where_key_says():
    assert served([chat("u: hello", "a: jam")], [TEA], key="other") == [1.0]
    with pytest.raises(DataError, match="'one': its 'job' is None, and no text"):
        served([chat("u: hello", "a: jam")], [TEA], key="job")
