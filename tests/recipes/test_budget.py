"""What a budget says, and how many optimiser steps it buys."""

import numpy as np
import pytest

from turnsmith.errors import UsageError
from turnsmith.recipes.budget import Budget, Rate, Spent, of_data, of_training, parse, rate


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("90s", Budget(90, "seconds")),
        ("10m", Budget(600, "seconds")),
        ("1.5h", Budget(5400, "seconds")),
        ("2e15flops", Budget(2e15, "flops")),
        ("1e+3 FLOPs", Budget(1000, "flops")),
        ("50,000 tokens", Budget(50_000, "tokens")),
    ],
)
def test_a_budget_is_a_number_and_a_unit(text, budget):
    assert parse(text) == budget


@pytest.mark.parametrize("text", ["", "10", "10 m m", "0m", "-3m", "ten minutes", "1..2m", "5 steps"])
def test_anything_else_is_answered_with_how_to_write_it(text):
    with pytest.raises(UsageError, match="write it like 90s, 10m"):
        parse(text)


def cycling(sizes):
    """How often each example is seen when steps take one example each, in turn."""
    count = len(sizes)
    return lambda steps: np.array([steps // count + (place < steps % count) for place in range(count)])


def test_steps_are_as_many_as_can_be_paid():
    sizes = np.array([10, 20, 30])
    # Each token costs 1 each time it is seen: 10, 30, 60, 70, 90, 120 after 1 to 6 steps.
    assert [Rate(0, 1).steps(money, sizes, cycling(sizes)) for money in (10, 59.9, 60, 119, 120)] == [
        1,
        2,
        3,
        5,
        6,
    ]


def test_an_example_is_prepared_once_however_often_it_is_seen():
    sizes = np.array([10, 20, 30])
    # And 2 for the first time: 30, 90, 180, then 190, 210, 240.
    assert [Rate(2, 1).steps(money, sizes, cycling(sizes)) for money in (90, 179, 180, 239, 240)] == [
        2,
        2,
        3,
        5,
        6,
    ]


def test_one_step_is_taken_even_where_nothing_is_left():
    assert Rate(0, 1).steps(0, np.array([10]), cycling([10])) == 1


TRIAL = {
    "sizes": [100, 200, 300],
    "seen": 400,
    "seconds": [9.0, 2.0, 3.0],
    "tokens": [80, 160, 240],
    "flops": [1e3, 2e3, 3e3],
    "preparing_seconds": 4.0,
    "reference_flops": 800.0,
}


def test_the_warm_up_step_says_nothing_of_seconds():
    assert rate(TRIAL, "seconds") == Rate(4 / 400, 5 / 500)  # 2 + 3 seconds for 200 + 300 tokens


def test_operations_and_tokens_count_from_the_first_step():
    assert rate(TRIAL, "flops") == Rate(2.0, 10.0)  # 800 / 400, 6000 / 600
    assert rate(TRIAL, "tokens") == Rate(0.0, 0.8)  # what is laid down once is counted once: 480 of 600


def test_what_stages_and_references_take_is_spent():
    data = {"seconds": 3.0, "usage": {"prompt": 50, "completion": 7}, "flops": 100.0}
    train = {
        "seconds": 10.0, "preparing_seconds": 2.0, "flops": 1e6, "reference_flops": 1e5, "tokens": 900,
    }  # fmt: skip
    assert of_data(data) + of_training(train) == Spent(15.0, 1.1e6 + 100, 957)
    assert of_data({"seconds": 1.0, "usage": {}, "flops": 0}) == Spent(1.0)


def test_what_a_step_drew_to_learn_from_is_paid():
    made = {"seconds": 2.0, "preparing_seconds": 1.0, "flops": 10.0, "reference_flops": 5.0, "tokens": 100}
    drawn = {"usage": {"prompt": 30, "completion": 12}, "collecting_seconds": 4.0, "collecting_flops": 7.0}
    assert of_training(made) == Spent(3.0, 15.0, 100.0)
    assert of_training(made | drawn) == Spent(7.0, 22.0, 142.0)
