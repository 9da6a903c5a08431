"""What a judge chooses of two replies, against the reference."""

from dataclasses import replace

import pytest

from turnsmith.errors import DataError
from turnsmith.evaluation.tasks.paths import Paths
from turnsmith.testing import TinyBench, chat, subject
from turnsmith.types import Example, Failure, Reply

BENCH = TinyBench(
    {"asked": [Example({"text": chat(f"u: {n}", "a: a b c")}, {}, {"id": str(n)}) for n in range(4)]}
)
OTHER = ["a b c", "a", "x", "c"]  # 1, 2 / 4, 0, 2 / 4
OWN = ["y", "a b c d e", "z", "b"]  # 0, 6 / 8, 0, 2 / 4


def says(texts):
    return lambda asked, sampling=None, seed=0: [
        Failure("closed") if text is None else Reply.scripted(text) for text in texts[: len(asked)]
    ]


def longest(said, examples):
    return [float(len(one.messages[-1].content)) for one in said]


def measured(other=OTHER, own=OWN, by=longest, **options):
    told = replace(subject(), chat=says(own))
    return Paths(on="asked", other=says(other), by=by, **options).measure(told, BENCH)


def test_figures_by_hand():
    """The longer one is chosen, of equals the other's: the first, the model's, and the other's twice."""
    items = measured()
    names = ("chosen", "own", "other", "less own", "less other", "right", "chance", "taken")
    found = [[item.values[name] for name in names] for item in items]
    assert found == [
        [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.5, 1.0],
        [0.75, 0.75, 0.5, 0.0, 0.25, 1.0, 0.5, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0],
        [0.5, 0.5, 0.5, 0.0, 0.0, 1.0, 1.0, 1.0],
    ]
    assert items[1].shown == {"reference": "a b c", "text": OWN[1], "other": "a", "own": OWN[1]}


def test_a_judge_that_errs_costs():
    shortest = measured(by=lambda said, examples: [-score for score in longest(said, examples)])
    assert [item.values["less own"] for item in shortest[:2]] == [0.0, -0.25]
    assert [item.values["less other"] for item in shortest[:2]] == [-1.0, 0.0]
    assert [item.values["right"] for item in shortest[:2]] == [0.0, 0.0]


def test_a_question_that_one_could_not_answer_fails():
    items = measured(other=[None, *OTHER[1:]])
    assert (items[0].failed, items[0].values) == ("closed", {})
    assert items[1].failed is None


def test_only_the_first_are_asked():
    assert [item.id for item in measured(count=2)] == ["0", "1"]


def test_what_has_no_answer_is_refused():
    bench = TinyBench({"asked": [Example({"text": chat("u: x")}, {}, {"id": "x"})]})
    with pytest.raises(DataError, match="has no answer to compare with"):
        Paths(on="asked", other=says(OTHER), by=longest).measure(bench.tuned, bench)
