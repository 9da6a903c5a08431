"""The likelihood objectives, by hand."""

from math import log

import pytest
import torch

from turnsmith.errors import UsageError
from turnsmith.objectives.likelihood import dft, focal, sft
from turnsmith.testing import scores

ROWS = {"text": [[-0.5, -2.0], [-3.0]]}


def test_sft_is_minus_the_log_prob_of_each_trained_token():
    loss = sft(scores(ROWS))
    assert loss.values.tolist() == [0.5, 2.0, 3.0]
    assert loss.metrics == {}


def test_dft_counts_a_token_by_its_probability_through_which_nothing_learns():
    s = scores({"text": [[log(0.5)], [log(0.25)]]})
    loss = dft(s)
    assert loss.values.tolist() == pytest.approx([0.5 * log(2), 0.25 * log(4)], abs=1e-12)
    assert loss.metrics["likelihood"].tolist() == pytest.approx([log(2), log(4)])
    (slope,) = torch.autograd.grad(loss.values.sum(), s.logprobs)
    assert slope.tolist() == pytest.approx([-0.5, -0.25])  # -p; of the whole product it were -p (1 + log p)


def test_focal_without_gamma_is_sft():
    assert focal(scores(ROWS), gamma=0.0).values.tolist() == sft(scores(ROWS)).values.tolist()


@pytest.mark.parametrize(("gamma", "expected"), [(1.0, 0.25 * log(4 / 3)), (2.0, 0.0625 * log(4 / 3))])
def test_focal_takes_the_power_of_what_is_missing_to_certainty(gamma, expected):
    """p = 3/4: 1 - p is 1/4, its square 1/16."""
    loss = focal(scores({"text": [[log(0.75)]]}), gamma=gamma)
    assert loss.values.tolist() == pytest.approx([expected], abs=1e-12)
    assert loss.metrics["likelihood"].tolist() == pytest.approx([log(4 / 3)], abs=1e-12)


def test_focal_weighs_every_token_of_an_example_by_its_value():
    loss = focal(scores(ROWS, values={"weight": [0.5, 10.0]}), gamma=0.0)
    assert loss.values.tolist() == [0.25, 1.0, 30.0]  # 0.5 * 0.5, 0.5 * 2, 10 * 3


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_a_token_that_is_certain_has_no_loss_and_a_slope_that_is_a_number(gamma):
    s = scores({"text": [[0.0]]})
    s.logprobs.requires_grad_()
    values = focal(s, gamma=gamma).values
    (slope,) = torch.autograd.grad(values.sum(), s.logprobs)
    assert values.tolist() == [0.0]
    assert torch.isfinite(slope).all()


def test_the_slope_of_focal_is_that_of_the_formula():
    """d/dl of -(1 - e^l)^2 l at l = ln(1/2): 2 (1 - p) p l - (1 - p)^2 = l / 2 - 1/4."""
    s = scores({"text": [[log(0.5)]]})
    s.logprobs.requires_grad_()
    (slope,) = torch.autograd.grad(focal(s, gamma=2.0).values.sum(), s.logprobs)
    assert slope.tolist() == pytest.approx([log(0.5) / 2 - 0.25], abs=1e-12)


def test_a_gamma_below_zero_is_refused():
    with pytest.raises(UsageError, match="gamma is -1"):
        focal(scores(ROWS), gamma=-1.0)
