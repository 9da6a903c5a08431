"""Two models' items compared: paired by id, in groups, with what says nothing marked."""

import json

import numpy as np
import pytest

from turnsmith.errors import ModelError, UsageError
from turnsmith.evaluation.items import Item, Metric, change, compare, pooled, together, worst
from turnsmith.evaluation.reducers import value_of

LOSS = Metric("loss", "nats", "nats per token", "lower", "tokens", "conversations")
RIGHT = Metric("right", "likely", "share", "higher", chance=True, grouped=True)


def losses(**values):
    return [Item(id, "", {"nats": nats, "tokens": tokens}) for id, (nats, tokens) in values.items()]


def answers(**values):
    """Items of four options; the group is the first letter of the id."""
    return [Item(id, id[0], {"likely": float(right), "chance": 0.25}) for id, right in values.items()]


def test_a_figure_is_a_sum_over_sizes_of_items_that_both_have():
    before = losses(a=(10, 5), b=(2, 1), gone=(100, 1))
    after = losses(b=(1, 1), a=(5, 5), new=(100, 1))
    (row,) = compare([LOSS], before, after)
    assert (row["n"], row["before"], row["after"], row["difference"]) == (2, 2.0, 1.0, -1.0)
    assert (row["low"], row["high"], row["verdict"]) == (-1.0, -1.0, "undecided")  # two items cannot decide
    assert (row["name"], row["unit"], row["of"], row["chance"]) == (
        "loss",
        "nats per token",
        "conversations",
        None,
    )
    assert row["groups"] == []


def test_groups_come_in_their_first_order_with_their_own_figures():
    before = answers(x1=1, x2=1, y1=0, y2=1)
    after = answers(x1=1, x2=0, y1=1, y2=1)
    (row,) = compare([RIGHT], before, after)
    assert (row["before"], row["after"], row["chance"]) == (0.75, 0.75, 0.25)
    assert [(g["name"], g["n"], g["before"], g["after"]) for g in row["groups"]] == [
        ("x", 2, 1.0, 0.5), ("y", 2, 0.5, 1.0),
    ]  # fmt: skip


@pytest.mark.parametrize(("right", "nothing"), [(3, True), (8, True), (9, False), (16, False)])
def test_a_group_near_guessing_says_nothing(right, nothing):
    # Two standard errors above chance are 0.25 + 2 * sqrt(0.25 * 0.75 / 20) = 0.444 of 20 items, that is 8.9.
    items = answers(**{f"x{i}": i < right for i in range(20)})
    ((group,),) = [row["groups"] for row in compare([RIGHT], items, items)]
    assert group["says_nothing"] is nothing


def test_whether_it_says_something_is_judged_by_the_start_alone():
    low, high = answers(**{f"x{i}": i < 4 for i in range(20)}), answers(**{f"x{i}": True for i in range(20)})
    ((one,),) = [row["groups"] for row in compare([RIGHT], low, high)]
    ((other,),) = [row["groups"] for row in compare([RIGHT], high, low)]
    assert (one["says_nothing"], other["says_nothing"]) == (True, False)


def test_without_a_floor_nothing_is_marked():
    said = Metric("said", "likely", "share", "higher", grouped=True)
    items = answers(x1=0, x2=0)
    ((group,),) = [row["groups"] for row in compare([said], items, items)]
    assert group["says_nothing"] is False
    assert group["chance"] is None


def test_items_that_one_side_could_not_measure_are_left_out():
    before = [*losses(a=(4, 2)), Item("b", "", {"tokens": 3})]
    (row,) = compare([LOSS], before, losses(a=(2, 2), b=(9, 3)))
    assert (row["n"], row["before"], row["after"]) == (1, 2.0, 1.0)


def test_nothing_in_common_is_told_by_the_metric():
    with pytest.raises(
        UsageError, match=r"'loss' cannot be compared: there is no item that both models have"
    ):
        compare([LOSS], losses(a=(1, 1)), losses(b=(1, 1)))


def test_sizes_that_differ_are_refused_because_no_figure_would_be_right():
    with pytest.raises(
        UsageError, match="item 'a' has 2 'tokens' before and 3 after: 'loss' cannot be compared"
    ):
        compare([LOSS], losses(a=(4, 2)), losses(a=(4, 3)))


def test_a_loss_that_is_no_number_is_named_by_item():
    with pytest.raises(
        ModelError, match=r"'loss' of item 'a' is no number \(4 before and nan after\): has training"
    ):
        compare([LOSS], losses(a=(4, 2)), losses(a=(float("nan"), 2)))


def test_items_that_only_one_side_has_are_counted():
    before = losses(a=(10, 5), b=(2, 1), gone=(100, 1))
    after = losses(b=(1, 1), a=(5, 5), new=(100, 1), newer=(1, 1))
    (row,) = compare([LOSS], before, after)
    assert (row["n"], row["left_out"]) == (2, 3)


def test_items_that_speak_of_another_metric_are_not_left_out():
    before, after = ([*losses(a=(1, 1)), Item("other", "", {"kind": 1.0})] for _ in range(2))
    (row,) = compare([LOSS], before, after)
    assert (row["n"], row["left_out"]) == (1, 0)


def test_the_worst_are_those_that_lost_most_for_their_size():
    loss = Metric("loss", "nats", "nats per token", "lower", "tokens")

    def side(**nats):
        sizes = {"a": 10.0, "b": 2.0, "c": 4.0, "d": 1.0}
        return [Item(id, "", {"nats": value, "tokens": sizes[id]}) for id, value in nats.items()]

    found = worst(loss, side(a=10, b=2, c=4, d=1), side(a=15, b=4, c=3, d=1), count=1)
    # per token: a 1 -> 1.5, b 1 -> 2, c 1 -> 0.75, d as before; in nats a lost most, 5
    assert found == {"better": 1, "worse": 2, "items": [{"id": "b", "before": 1.0, "after": 2.0}]}
    right = Metric("right", "right", "share", "higher")
    before, after = ([Item(i, "", {"right": float(i in known)}) for i in "abc"] for known in ("ac", "b"))
    found = worst(right, before, after)
    assert (found["better"], found["worse"]) == (1, 2)
    assert [row["id"] for row in found["items"]] == ["a", "c"]  # of equal ones the first come first


def test_a_figure_over_all_items_has_no_worst_item():
    over = Metric("ranked", "score", "AUROC", "higher", reduce="auroc")
    assert worst(over, [], []) == {"better": None, "worse": None, "items": []}


def grouped(rng, better):
    """Twelve groups of 40; in the first so many of those that were wrong are right afterwards."""
    before = {f"{chr(97 + g)}{i}": rng.random() < 0.5 for g in range(12) for i in range(40)}
    wrong = [id for id, right in before.items() if id[0] == "a" and not right][:better]
    return answers(**before), answers(**{**before, **dict.fromkeys(wrong, True)})


def test_groups_are_judged_together_and_say_so():
    """6 of 40 better, none worse: alone (p 0.03 by McNemar's test) it is told, among twelve it is not."""
    before, after = grouped(np.random.default_rng(0), 6)
    (row,) = compare([RIGHT], before, after)
    assert {group["comparisons"] for group in row["groups"]} == {12}
    assert row["comparisons"] == 1
    alone = [[item for item in items if item.group == "a"] for items in (before, after)]
    assert compare([RIGHT], *alone)[0]["verdict"] == "better"
    assert row["groups"][0]["verdict"] == "undecided"
    assert (row["groups"][0]["low"], row["groups"][0]["high"]) < (0, 1)


def test_a_group_that_gains_enough_is_told_among_twelve():
    (row,) = compare([RIGHT], *grouped(np.random.default_rng(0), 16))
    assert [group["verdict"] for group in row["groups"]] == ["better"] + ["undecided"] * 11


def test_methods_against_one_base_are_judged_together():
    rng = np.random.default_rng(0)
    base, *others = (
        losses(**{f"i{n}": (value, 1) for n, value in enumerate(rng.normal(size=40))}) for _ in range(4)
    )
    found = together(LOSS, {f"m{k}": [(base, other)] for k, other in enumerate(others)})
    assert {one.comparisons for one in found.values()} == {3}
    alone = pooled(LOSS, [(base, others[0])])
    assert found["m0"].difference == alone.difference
    assert found["m0"].high - found["m0"].low > 1.1 * (alone.high - alone.low)


class Detector:
    """A task whose figure is no sum: how well a score tells two kinds of items apart."""

    title = "Telling insults apart"
    note = "AUROC of a score against a label."
    metrics = (
        Metric("AUROC", "toxicity", "AUROC", "higher", reduce="auroc", others=("insult",)),
        Metric("mean score", "toxicity", "score", "lower"),
    )

    def measure(self, subject, bench):
        """subject: how far the scores of the two kinds lie apart."""
        rng = np.random.default_rng(0)
        return [
            Item(f"i{n}", "", {"insult": float(n % 2), "toxicity": subject * (n % 2) + rng.normal()})
            for n in range(60)
        ]


def test_a_task_may_state_the_figure_of_a_reducer():
    row, plain = compare(Detector.metrics, Detector().measure(0.2, None), Detector().measure(2.0, None))
    scores = [[item.values["toxicity"] for item in Detector().measure(apart, None)] for apart in (0.2, 2.0)]
    labels = [float(n % 2) for n in range(60)]
    assert [row["before"], row["after"]] == [value_of("auroc", one, labels) for one in scores]
    assert row["low"] < row["difference"] < row["high"]
    assert (row["n"], row["verdict"], row["reduce"], row["others"]) == (60, "better", "auroc", ("insult",))
    assert plain["reduce"] is None
    json.dumps(row)


def test_a_reducer_over_one_class_is_refused_by_the_metric():
    items = [Item(f"i{n}", "", {"toxicity": float(n), "insult": 1.0}) for n in range(9)]
    with pytest.raises(
        UsageError, match="'AUROC' of 9 items: auroc has no figure: all items are of one class"
    ):
        compare(Detector.metrics, items, items)


def test_labels_that_differ_between_two_models_are_refused():
    one, other = (
        [Item(f"i{n}", "", {"toxicity": 1.0, "insult": (n + k) % 2}) for n in range(9)] for k in (0, 1)
    )
    with pytest.raises(
        UsageError, match="item 'i0' has 0 'insult' before and 1 after: 'AUROC' cannot be compared"
    ):
        compare(Detector.metrics, one, other)


def test_a_value_that_is_missing_is_named():
    items = [Item("i", "", {"toxicity": 1.0})]
    with pytest.raises(UsageError, match="item 'i' has no 'insult', which 'AUROC' is made of"):
        compare(Detector.metrics, items, items)


def test_a_reducer_that_is_not_there_is_named():
    metric = Metric("x", "nats", "", "lower", reduce="aurok")
    with pytest.raises(UsageError, match="there is no reducer 'aurok'; did you mean 'auroc'"):
        compare([metric], losses(a=(1, 1)), losses(a=(1, 1)))


def test_the_change_of_a_reducer_is_refused_item_by_item():
    items = Detector().measure(1.0, None)
    with pytest.raises(UsageError, match="is no sum over items"):
        change(Detector.metrics[0], items, items)
