"""The learning rate by hand, and what AdamW decays."""

import pytest
import torch

from turnsmith.train.optim import adamw, rate
from turnsmith.train.options import Fit


@pytest.mark.parametrize(("schedule", "expected"), [
    ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),  # after two steps of warm-up: 1 - k/4
    ("cosine", [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447]),  # (1 + cos(pi k / 4)) / 2
    ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
])  # fmt: skip
def test_the_rate_rises_over_the_warm_up_and_then_follows_the_schedule(schedule, expected):
    fit = Fit(steps=6, lr=2.0, warmup=1 / 3, schedule=schedule)
    assert [rate(fit, step, 6) for step in range(6)] == pytest.approx([2 * e for e in expected], abs=1e-6)


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert rate(Fit(steps=4, lr=1.0, warmup=0.0), 0, 4) == 1.0


def test_a_share_of_the_steps_is_not_one_more_for_a_rounding_error():
    fit = Fit(steps=100, lr=1.0, warmup=0.07)  # 0.07 * 100 = 7.000000000000001 in floating point
    assert rate(fit, 6, 100) == 1.0


def test_a_warm_up_of_all_steps_ends_at_the_full_rate():
    fit = Fit(steps=4, lr=1.0, warmup=1.0)
    assert [rate(fit, step, 4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_weight_decay_shrinks_matrices_and_leaves_vectors_alone():
    matrix, vector = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    optimizer = adamw([matrix, vector], Fit(steps=1, lr=0.1, weight_decay=0.5))
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert matrix.flatten().tolist() == pytest.approx(
        [0.95] * 4
    )  # 1 - lr * decay; Adam moves nothing at gradient 0
    assert vector.tolist() == [1.0, 1.0]


def test_a_step_counts_as_a_change_of_what_it_changes():
    parameter, frozen = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    optimizer = adamw([parameter], Fit(steps=1, lr=0.1))
    parameter.grad = torch.ones(2, 2)
    before, untouched = parameter._version, frozen._version
    optimizer.step()
    assert not torch.equal(parameter, torch.ones(2, 2))
    assert parameter._version > before
    assert frozen._version == untouched
