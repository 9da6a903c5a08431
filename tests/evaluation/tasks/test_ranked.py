"""Whether judges put ranked answers in order, by hand."""

import pytest

from turnsmith.evaluation.alone import alone
from turnsmith.evaluation.tasks.ranked import Ranked, kendall, spearman
from turnsmith.testing import TinyBench, chat
from turnsmith.types import Example


def answers(id, *ranks):
    """As many answers, the first one with one word, the second with two, and so on."""
    ones = tuple(chat("u: How?", f"a: {'so ' * (at + 1)}".rstrip()) for at in range(len(ranks)))
    return Example({"replies": ones}, {"rank": tuple(map(float, ranks))}, {"id": id})


DATA = [answers("a", 0, 1, 2), answers("b", 2, 0, 1), answers("c", 0, 1)]


def words(conversations, _):
    return [float(len(one.messages[-1].content.split())) for one in conversations]


def shorter(*given):
    return [-one for one in words(*given)]


def items(**options):
    bench = TinyBench({"sets": DATA})
    task = Ranked(on="sets", **options)
    return task, task.measure(bench.tuned, bench)


def test_who_prefers_short_answers_orders_two_sets_and_turns_one_round():
    """Of a and c all pairs are in order; of b, judged -1, -2, -3 at ranks 2, 0, 1, one of three."""
    task, found = items(by=shorter)
    assert [one.values["ahead"] for one in found] == [1.0, 0.0, 1.0]
    assert [one.values["kendall"] for one in found] == pytest.approx([1, (1 - 2) / 3, 1])
    # Ranks of judgements 3, 2, 1 and of people 1, 3, 2: the squares of differences sum to 4 + 1 + 1.
    assert found[1].values["spearman"] == pytest.approx(1 - 6 * 6 / (3 * 8))
    rows = {row["name"]: row["after"] for row in alone(task.metrics, found)}
    assert rows == {
        "best above worst": pytest.approx(2 / 3),
        "best above worst, above chance": pytest.approx(2 / 3 - 1 / 2),
        "Kendall": pytest.approx((1 - 1 / 3 + 1) / 3),
        "Spearman": pytest.approx((1 - 0.5 + 1) / 3),
    }


def test_a_baseline_is_set_beside_the_judge():
    task, found = items(by=shorter, baseline=words)
    assert [one.values["baseline"] for one in found] == [0.0, 1.0, 0.0]
    rows = {row["name"]: row["after"] for row in alone(task.metrics, found)}
    assert rows["the baseline's best above worst"] == pytest.approx(1 / 3)
    assert rows["best above worst, above the baseline's"] == pytest.approx(2 / 3 - 1 / 3)


def test_what_is_above_chance_or_a_baseline_may_be_below_0_with_its_interval():
    """Of ten sets the judge has one in order, and the baseline the nine others."""
    data = [answers(f"{at}", 0, 1) if at else answers("0", 1, 0) for at in range(10)]
    bench = TinyBench({"sets": data})
    task = Ranked(on="sets", by=words, baseline=shorter)
    rows = {row["name"]: row for row in alone(task.metrics, task.measure(bench.tuned, bench))}
    for name, value in (
        ("best above worst, above chance", -0.4),
        ("best above worst, above the baseline's", -0.8),
    ):
        assert rows[name]["after"] == pytest.approx(value)
        assert rows[name]["low"] < value < rows[name]["high"]
    assert rows["best above worst"]["low"] == 0


def test_equal_judgements_are_half_in_order_and_correlate_with_nothing():
    _, found = items(by=lambda asked, _: [1.0] * len(asked))
    assert {key: found[0].values[key] for key in ("ahead", "kendall", "spearman")} == {
        "ahead": 0.5, "kendall": 0.0, "spearman": 0.0,
    }  # fmt: skip


def test_correlations_leave_out_pairs_of_one_rank_and_count_ties_of_judgements_as_nothing():
    assert kendall([3.0, 1.0, 2.0], [0, 1, 1]) == 1.0
    assert kendall([1.0, 1.0, 0.0], [0, 1, 2]) == pytest.approx(2 / 3)
    assert spearman([3.0, 2.0, 1.0], [0, 1, 2]) == pytest.approx(1)


def test_a_set_of_which_an_answer_cannot_be_judged_fails_and_is_no_0():
    _, found = items(by=lambda asked, _: [None] + [1.0] * (len(asked) - 1), baseline=words)
    assert [one.failed for one in found] == ["could not be judged", None, None]
    assert found[0].values == {}
    _, found = items(by=words, baseline=lambda asked, _: [1.0] * (len(asked) - 1) + [None])
    assert [one.failed for one in found] == [None, None, "could not be judged"]


def test_answers_of_one_rank_have_no_order():
    bench = TinyBench({"sets": [answers("x", 0, 0)]})
    (found,) = Ranked(on="sets", by=words).measure(bench.tuned, bench)
    assert found.failed == "its answers are all of one rank"
