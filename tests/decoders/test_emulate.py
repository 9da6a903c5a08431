"""Emulated fine-tuning: products of conditionals, their ends, and ratios of small probabilities left out."""

import pytest
import torch

from turnsmith.decoders.emulate import emulate, trade
from turnsmith.errors import UsageError

CLOSE = {"atol": 1e-5, "rtol": 1e-4}


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return [3 * torch.randn(5, 11) for _ in range(4)]


def test_it_is_the_base_times_what_tuning_changed(logits):
    base, tuned, untuned, _ = logits
    product = base.softmax(1) * tuned.softmax(1) / untuned.softmax(1)
    expected = product / product.sum(1, keepdim=True)
    torch.testing.assert_close(emulate(base, tuned, untuned).softmax(1), expected, **CLOSE)


def test_at_one_size_it_is_the_tuned_model_and_with_the_weight_turned_the_base_squared_over_it(logits):
    base, tuned, _, _ = logits
    torch.testing.assert_close(emulate(base, tuned, base).softmax(1), tuned.softmax(1), **CLOSE)
    squared = base.softmax(1) ** 2 / tuned.softmax(1)
    turned = emulate(base, tuned, base, weight=-1.0).softmax(1)
    torch.testing.assert_close(turned, squared / squared.sum(1, keepdim=True), **CLOSE)


def test_weight_0_is_the_base(logits):
    base, tuned, untuned, _ = logits
    found = emulate(base, tuned, untuned, weight=0.0)
    assert torch.equal(found, base.log_softmax(1))


def test_the_ends_of_a_trade_are_the_two_tunings(logits):
    base, one, other, untuned = logits
    for share, tuned in ((1.0, one), (0.0, other)):
        found = trade(base, one, other, untuned, share=share)
        torch.testing.assert_close(found, emulate(base, tuned, untuned), **CLOSE)


def test_a_trade_is_linear_in_log_space(logits):
    """Half way, it differs from the mean of the ends by one constant for each position."""
    ends = [trade(*logits, share=share).log_softmax(1) for share in (0.0, 1.0)]
    apart = trade(*logits, share=0.5).log_softmax(1) - (ends[0] + ends[1]) / 2
    torch.testing.assert_close(apart, apart[:, :1].expand_as(apart), **CLOSE)
    assert apart.abs().max() > 1e-2  # it is not 0: the normaliser differs


def test_outside_of_the_top_p_set_the_tuned_model_is_left_as_it_is():
    # The set of 0.9 is {0.6, 0.3, 0.06}: before the third one there is 0.9 and no less.
    tuned = torch.tensor([[0.6, 0.29, 0.07, 0.04]]).log()
    base, untuned = torch.tensor([[0.1, 0.1, 0.4, 0.4]]).log(), torch.tensor([[0.5, 0.3, 0.1, 0.1]]).log()
    found = emulate(base, tuned, untuned, top_p=0.9).exp()
    expected = torch.tensor([[0.1 * 0.6 / 0.5, 0.1 * 0.29 / 0.3, 0.4 * 0.07 / 0.1, 0.04]])
    torch.testing.assert_close(found, expected, **CLOSE)


def test_the_top_p_set_keeps_noise_of_rare_tokens_out():
    """Card 27: the share of what the tuned model finds less probable than 1e-4 drops to about 0."""
    torch.manual_seed(1)
    tuned = 2 * torch.randn(50, 2000)
    untuned, base = tuned + 5 * torch.randn(50, 2000), tuned + torch.randn(50, 2000)
    rare = tuned.softmax(1) < 1e-4
    shares = [
        (emulate(base, tuned, untuned, top_p=top_p).softmax(1) * rare).sum(1).mean() for top_p in (1.0, 0.95)
    ]
    assert shares[0] > 0.1
    assert shares[1] < 1e-6


def test_a_top_p_that_is_no_share_is_refused(logits):
    with pytest.raises(UsageError, match="top_p is 0"):
        emulate(*logits[:3], top_p=0.0)
