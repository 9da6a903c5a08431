"""Two models' items compared: paired by id, in groups, with what says nothing marked."""

import pytest

from turnsmith.errors import ModelError, UsageError
from turnsmith.evaluation import suite
from turnsmith.evaluation.items import Item, Metric, compare
from turnsmith.testing import chat
from turnsmith.types import Failure, Sampling

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


def test_a_conversation_that_cannot_be_answered_is_an_error_and_not_left_out():
    class Dumb:
        def __call__(self, conversations, *, sampling=None, seed=0):
            return [Failure("no words") for _ in conversations]

    subject = suite.Subject("mute", None, None, Dumb(), None)
    with pytest.raises(ModelError, match="mute cannot answer 'b7': no words"):
        suite.answers(subject, {"b7": chat("u: Hi")}, Sampling())
