"""The policy bent by its advantages, by hand. Card 12."""

from __future__ import annotations

import pytest
import torch

from turnsmith.decoders.advantage import advantage

POLICY = torch.tensor([[1.0, 2.0, 0.0], [0.5, 0.0, -1.0]], dtype=torch.float64)
V = torch.tensor([1.0, 0.0], dtype=torch.float64)
Q1 = torch.tensor([[3.0, 0.5, 1.0], [0.0, -1.0, 2.0]], dtype=torch.float64)
Q2 = torch.tensor([[2.0, 0.75, 9.0], [1.0, -2.0, 1.5]], dtype=torch.float64)
# The lesser Q minus V.
ADVANTAGES = torch.tensor([[1.0, -0.5, 0.0], [0.0, -2.0, 1.5]], dtype=torch.float64)


def test_the_advantage_is_the_lesser_copy_minus_v_and_is_added_to_the_log_probs() -> None:
    expected = POLICY - POLICY.exp().sum(1, keepdim=True).log() + 4 * ADVANTAGES
    torch.testing.assert_close(advantage(POLICY, V, Q1, Q2, weight=4.0), expected)


def test_at_weight_0_the_distribution_is_the_policys() -> None:
    """Card: adv_weight 0."""
    torch.testing.assert_close(advantage(POLICY, V, Q1, Q2, weight=0.0).softmax(1), POLICY.softmax(1))


@pytest.mark.parametrize("weight", [1.0, 1000.0])
def test_clipped_at_0_it_lowers_tokens_with_a_negative_advantage_alone(weight: float) -> None:
    """Card: a large adv_weight with clip 0 can only lower these."""
    moved = advantage(POLICY, V, Q1, Q2, weight=weight, clip=0.0) - POLICY.log_softmax(1)
    assert (moved[ADVANTAGES < 0] < 0).all()
    assert (moved[ADVANTAGES >= 0] == 0).all()


def test_a_large_weight_takes_the_token_with_the_largest_advantage() -> None:
    assert advantage(POLICY, V, Q1, Q2, weight=1000.0).argmax(1).tolist() == [0, 2]
