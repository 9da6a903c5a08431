"""Proxy-tuning: the closed form, and its ends."""

import pytest
import torch

from turnsmith.decoders.proxy import proxy


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return [3 * torch.randn(5, 11) for _ in range(3)]


@pytest.mark.parametrize("alpha", [-1.0, 0.25, 1.0, 2.0])
def test_it_is_the_normalised_product_of_distributions(logits, alpha):
    base, expert, anti = logits
    product = base.softmax(1) * (expert.softmax(1) / anti.softmax(1)) ** alpha
    expected = product / product.sum(1, keepdim=True)
    torch.testing.assert_close(proxy(*logits, alpha=alpha).softmax(1), expected, atol=1e-5, rtol=1e-4)


def test_alpha_0_is_the_base_bit_for_bit(logits):
    assert torch.equal(proxy(*logits, alpha=0.0), logits[0])


def test_by_hand():
    # 1 + 2 * (4 - 3) and 2 + 2 * (0 - 1)
    given = [torch.tensor([row]) for row in ([1.0, 2.0], [4.0, 0.0], [3.0, 1.0])]
    assert proxy(*given, alpha=2.0).tolist() == [[3.0, 0.0]]
