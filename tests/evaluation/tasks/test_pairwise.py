"""Pairs in order, counted by hand."""

import pytest

from turnsmith.evaluation.alone import alone
from turnsmith.evaluation.tasks.pairwise import Pairwise
from turnsmith.testing import TinyBench, chat
from turnsmith.types import Example


def answers(id, *ranks):
    """As many answers, the first one with one word, the second with two, and so on."""
    ones = tuple(chat("u: How?", f"a: {'so ' * (at + 1)}".rstrip()) for at in range(len(ranks)))
    return Example({"replies": ones}, {"rank": tuple(map(float, ranks))}, {"id": id})


DATA = [answers("a", 0, 1, 2), answers("b", 2, 0, 1), answers("c", 0, 1), answers("d", 0, 0)]


def words(conversations, _):
    return [float(len(one.messages[-1].content.split())) for one in conversations]


def shorter(*given):
    return [-one for one in words(*given)]


def figures(data=DATA, **options):
    bench = TinyBench({"sets": data})
    task = Pairwise(on="sets", **options)
    items = task.measure(bench.tuned, bench)
    return {row["name"]: row["after"] for row in alone(task.metrics, items)}, items


def test_pairs_are_counted_over_all_prompts_and_prompts_where_all_are_in_order():
    """Short first: all 3 pairs of a, of b the second above the third, the one of c: 5 of 7, 2 of 3."""
    found, items = figures(by=shorter)
    assert found == {"pairs in order": pytest.approx(5 / 7), "all pairs in order": pytest.approx(2 / 3)}
    assert [one.failed for one in items] == [None, None, None, "its answers are all of one rank"]


def test_a_baseline_is_taken_off():
    """Long first: 0 of 3, 2 of 3, 0 of 1: 2 of 7 pairs, and no prompt."""
    found, _ = figures(by=shorter, baseline=words)
    assert found["pairs, above the baseline's"] == pytest.approx(5 / 7 - 2 / 7)
    assert found["prompts, above the baseline's"] == pytest.approx(2 / 3)


def test_equal_judgements_are_half_of_a_pair_and_no_order():
    found, _ = figures(by=lambda asked, _: [1.0] * len(asked))
    assert found == {"pairs in order": 0.5, "all pairs in order": 0.0}


def test_what_cannot_be_judged_fails():
    bench = TinyBench({"sets": DATA[:1]})
    (item,) = Pairwise(on="sets", by=lambda asked, _: [None] * len(asked)).measure(bench.tuned, bench)
    assert item.failed == "could not be judged"
