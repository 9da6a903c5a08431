"""Whether judges agree with people, on ratings by hand."""

from dataclasses import replace

import pytest

from turnsmith.errors import DataError, ModelError
from turnsmith.evaluation.alone import alone
from turnsmith.evaluation.items import compare
from turnsmith.evaluation.tasks.agreement import Agreement
from turnsmith.testing import TinyBench, chat, directory
from turnsmith.types import Example

SCORES = (1.0, 2.0, 3.0, 4.0, 5.0, 4.5, 1.5, 2.5, 3.5, 4.75)
DATA = [
    Example({"text": chat("u: How?", f"a: {'so ' * (at + 1)}")}, {"score": score}, {"id": str(at)})
    for at, score in enumerate(SCORES)
]


def items(judge, data=DATA):
    bench = TinyBench({"rated": data})
    return Agreement(on="rated", by=judge).measure(bench.tuned, bench)


def true(conversations, examples):
    return [one.values["score"] for one in examples]


def test_the_correlations_are_those_of_ratings_and_people():
    right = alone(Agreement.metrics, items(true))
    assert [row["after"] for row in right] == pytest.approx([1, 1, 1])
    wrong = alone(Agreement.metrics, items(lambda *both: [-(one**3) for one in true(*both)]))
    pearson, spearman, kendall = (row["after"] for row in wrong)
    assert (spearman, kendall) == pytest.approx((-1, -1))
    assert -1 < pearson < -0.9


def test_kendall_counts_pairs():
    """Of four replies one pair of six is the wrong way round: (5 - 1) / 6."""
    found = items(lambda *_: [1.0, 2.0, 4.0, 3.0], DATA[:4])
    assert alone(Agreement.metrics, found)[2]["after"] == pytest.approx(4 / 6)


def test_two_judges_are_compared_on_the_same_replies():
    rows = compare(Agreement.metrics, items(lambda *_: [float(at % 3) for at in range(10)]), items(true))
    assert all(row["after"] == pytest.approx(1) and row["before"] < 0.6 for row in rows)


def test_what_cannot_be_judged_fails_and_is_no_0():
    found = items(lambda conversations, _: [None] + [1.0] * (len(conversations) - 1))
    assert found[0].failed == "could not be judged"
    assert found[0].values == {}
    assert found[1].values == {"judged": 1.0, "score": 2.0}


def test_a_reply_without_a_rating_is_refused():
    with pytest.raises(DataError, match="'x' has no value 'score'"):
        items(true, [Example({"text": chat("u: a", "a: b")}, {}, {"id": "x"})])


def test_a_model_without_a_head_cannot_judge(tmp_path):
    bench = TinyBench({"rated": DATA})
    plain = replace(bench.tuned, name=str(directory(tmp_path / "plain")))
    with pytest.raises(ModelError, match="has no head that rates"):
        Agreement(on="rated").measure(plain, bench)
