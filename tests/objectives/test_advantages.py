"""What losses over a model's own answers are put together from, by hand."""

from math import exp, sqrt

import pytest
import torch

from turnsmith.objectives.advantages import above, drift, gained

REWARDS = torch.tensor([1.0, 4.0, 1.0, 7.0, 3.0, 5.0])
OWNER = torch.tensor([0, 0, 0, 1, 2, 2])  # three answers, one, and two


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        ("none", [1.0, 4.0, 1.0, 7.0, 3.0, 5.0]),
        ("mean", [-1.0, 2.0, -1.0, 0.0, -1.0, 1.0]),
        ("deviation", [-1 / sqrt(2), sqrt(2), -1 / sqrt(2), 0.0, -1.0, 1.0]),  # of 1, 4, 1 it is sqrt(6 / 3)
        ("others", [1 - 2.5, 4 - 1.0, 1 - 2.5, 0.0, 3 - 5.0, 5 - 3.0]),
    ],
)
def test_a_reward_is_held_against_those_of_its_own_prompt(baseline, expected):
    assert above(REWARDS, OWNER, baseline).tolist() == pytest.approx(expected)


def test_the_others_make_a_baseline_that_is_n_over_n_less_1_times_that_of_all():
    """arXiv:2402.14740 sec. 2.3: both point the same way, and their sums are 0 for each prompt."""
    three = above(REWARDS, OWNER, "others")[:3]
    assert three.tolist() == pytest.approx((1.5 * above(REWARDS, OWNER, "mean")[:3]).tolist())
    assert three.sum().item() == pytest.approx(0.0)


def test_equal_rewards_have_no_deviation_to_be_divided_by():
    same = torch.full((3,), 0.1)
    assert above(same, torch.zeros(3, dtype=torch.long), "deviation").tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain"),
    [
        (1.5, 2.0, 1.28 * 2.0),  # likelier by more than 0.28
        (1.5, -2.0, -3.0),
        (0.5, -2.0, 0.8 * -2.0),
        (0.5, 2.0, 1.0),
        (1.25, 2.0, 2.5),  # within the wider bound above
    ],
)
def test_a_gain_has_a_bound_on_either_side(ratio, advantage, gain):
    found = gained(torch.tensor(ratio), torch.tensor(advantage), low=0.2, high=0.28)
    assert found.item() == pytest.approx(gain)


def test_drift_is_no_less_than_0_and_its_mean_over_draws_is_the_divergence():
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
    each = drift(p.log(), q.log())
    assert each.tolist() == pytest.approx([0.4 - 1 + 0.916291, 0.0, 2.5 - 1 - 0.916291], abs=1e-5)
    assert (p * each).sum().item() == pytest.approx(0.3 * 0.916291, abs=1e-5)  # 0.5 ln 2.5 - 0.2 ln 2.5


def test_drift_is_exact_where_the_model_has_hardly_moved():
    near = drift(torch.tensor(-1.0), torch.tensor(-1.0 + 1e-3))
    assert near.item() == pytest.approx(exp(1e-3) - 1e-3 - 1, rel=1e-3)
