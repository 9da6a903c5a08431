"""Figures of one model by itself."""

import pytest

from turnsmith.evaluation.alone import alone
from turnsmith.evaluation.items import Item, Metric

RIGHT = Metric("right", "right", "share", "higher", chance=True, grouped=True)
LOSS = Metric("loss", "nats", "nats per token", "lower", "tokens", "chats")
ITEMS = [
    Item(
        str(n),
        "even" if n % 2 == 0 else "odd",
        {"right": float(n < 4), "chance": 0.25, "nats": n, "tokens": 2.0},
    )
    for n in range(1, 11)
]


def test_a_figure_stands_by_itself_with_an_interval_around_it():
    right, loss = alone([RIGHT, LOSS], ITEMS)
    assert right["after"] == pytest.approx(0.3)  # 1, 2 and 3 of ten
    assert 0.0 <= right["low"] < 0.3 < right["high"] < 0.8
    assert loss["after"] == pytest.approx(55 / 20)  # sums over sums
    assert loss["low"] < 2.75 < loss["high"]
    assert (right["n"], right["chance"]) == (10, 0.25)


def test_nothing_is_said_of_a_difference():
    for row in alone([RIGHT, LOSS], ITEMS):
        assert (row["before"], row["difference"], row["verdict"]) == (None, None, None)


def test_groups_stand_by_themselves_too():
    [right] = alone([RIGHT], ITEMS)
    assert {group["name"]: group["after"] for group in right["groups"]} == {
        "odd": pytest.approx(2 / 5), "even": pytest.approx(1 / 5),
    }  # fmt: skip
    assert all(group["verdict"] is None for group in right["groups"])


RANKED = Metric("AUPRC", "score", "AUPRC", "higher", reduce="auprc", others=("label",))
GAIN = Metric("gain", "score", "AUPRC", "higher", reduce="auprc-gain", others=("other", "label"))
SCORED = [Item(str(n), "", {"score": -n, "label": float(n < 6), "other": n}) for n in range(12)]


def test_a_figure_that_is_not_0_where_all_values_are_has_an_interval_around_itself():
    """Of equal scores AUPRC is the share of ones, 1/2, and the distance from that is not what is asked."""
    ranked, gain = alone([RANKED, GAIN], SCORED)
    assert (ranked["after"], ranked["low"], ranked["high"]) == (1, 1, 1)  # whichever item is left out
    worst = sum((n + 1) / (n + 7) for n in range(6)) / 6  # the other has the ones in the last six places
    assert gain["after"] == pytest.approx(1 - worst)
    assert 0 < gain["low"] < gain["after"] < gain["high"]


def test_a_correlation_stands_by_itself_though_that_of_nothing_is_none():
    """Items that are all 0 have no correlation, and F1 of another figure than 0."""
    metrics = [
        Metric(name, "judged", "correlation", "higher", reduce=name, others=("score",))
        for name in ("pearson", "spearman", "kendall")
    ]
    metrics.append(Metric("f1", "said", "share", "higher", reduce="f1-macro", others=("class",)))
    items = [
        Item(str(n), "", {"judged": n**2, "score": n + n % 2, "said": n % 2, "class": n % 2})
        for n in range(20)
    ]
    pearson, spearman, kendall, f1 = alone(metrics, items)
    for row in (pearson, spearman, kendall):
        assert row["before"] is None
        assert 0.8 < row["low"] < row["after"] < row["high"]
    assert spearman["after"] > pearson["after"]  # the order is kept, the line is not
    assert (f1["after"], f1["low"], f1["high"]) == (1, 1, 1)
