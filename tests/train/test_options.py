"""Options of a train step that make no sense are refused, and steps follow from epochs."""

import pytest

from turnsmith.train.options import Fit


@pytest.mark.parametrize("given", [{}, {"steps": 3, "epochs": 1.0}])
def test_exactly_one_of_steps_and_epochs_says_how_long(given):
    with pytest.raises(ValueError, match="exactly one of steps and epochs"):
        Fit(**given)


@pytest.mark.parametrize(("name", "value"), [
    ("batch", 0), ("row", 0), ("length", -1), ("checkpoint", 0), ("temperature", 0.0), ("lr", -1e-4),
    ("weight_decay", -0.1), ("clip", -1.0), ("evaluate", -1), ("patience", -1), ("warmup", 1.5),
    ("warmup", -0.1),
])  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        Fit(steps=1, **{name: value})


@pytest.mark.parametrize(("epochs", "examples", "batch", "total"), [
    (1.0, 16, 8, 2), (2.0, 12, 8, 3), (0.5, 64, 8, 4), (1.0, 3, 8, 1),
])  # fmt: skip
def test_epochs_become_steps(epochs, examples, batch, total):
    assert Fit(epochs=epochs, batch=batch).total(examples) == total


def test_patience_without_evaluations_is_refused():
    with pytest.raises(ValueError, match="patience counts evaluations"):
        Fit(steps=3, patience=2)


def test_steps_do_not_depend_on_the_number_of_examples():
    assert Fit(steps=7).total(1000) == 7


@pytest.mark.parametrize(("before", "now"), [("cut", "right"), ("error", "fail")])
def test_what_becomes_of_long_ones_is_asked_for_by_its_new_name(before, now):
    with pytest.raises(ValueError, match=f"over: what was '{before}' is now called '{now}'"):
        Fit(steps=1, over=before)
