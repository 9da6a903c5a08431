"""Contrastive generation: what is plausible, and what tuning changed in it."""

import pytest
import torch

from turnsmith.decoders.contrast import contrast
from turnsmith.errors import UsageError


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return [2 * torch.randn(5, 11) for _ in range(2)]


def test_by_hand():
    """The ratio, among what has at least a fifth of the highest probability."""
    tuned, known = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log(), torch.tensor([[0.7, 0.1, 0.1, 0.1]]).log()
    ratios = torch.tensor([[0.5 / 0.7, 0.3 / 0.1, 0.15 / 0.1, 0.0]])
    found = contrast(tuned, known, cut=0.2).softmax(1)
    torch.testing.assert_close(found, ratios / ratios.sum())
    assert found[0, 3] == 0  # exactly


def test_where_tuning_changed_nothing_it_is_flat_over_what_is_plausible(logits):
    tuned, _ = logits
    probabilities = tuned.softmax(1)
    plausible = probabilities >= 0.1 * probabilities.amax(1, keepdim=True)
    expected = plausible / plausible.sum(1, keepdim=True)
    torch.testing.assert_close(contrast(tuned, tuned, cut=0.1).softmax(1), expected)


def test_a_cut_of_1_is_the_greedy_tuned_model_and_one_of_0_the_ratio_alone(logits):
    tuned, known = logits
    assert torch.equal(contrast(tuned, known, cut=1.0).softmax(1).argmax(1), tuned.argmax(1))
    assert (contrast(tuned, known, cut=1.0).softmax(1).amax(1) == 1).all()
    torch.testing.assert_close(contrast(tuned, known, cut=0.0), tuned - known)


def test_the_score_turns_its_sign_when_the_models_change_places(logits):
    """Card 26: S is antisymmetric; up to what both are normalised by, which the cut of 0 leaves alone."""
    tuned, known = (one.log_softmax(1) for one in logits)
    torch.testing.assert_close(contrast(tuned, known, cut=0.0), -contrast(known, tuned, cut=0.0))


def test_there_is_always_something_plausible(logits):
    tuned, known = logits
    for cut in (0.0, 0.5, 1.0):
        found = contrast(tuned, known, cut=cut)
        assert found.gather(1, tuned.argmax(1, keepdim=True)).isfinite().all()


def test_the_power_is_that_of_the_tuned_model(logits):
    tuned, known = logits
    torch.testing.assert_close(contrast(tuned, known, cut=0.0, power=3.0), 3 * tuned - known)


@pytest.mark.parametrize("cut", [-0.1, 1.5])
def test_a_cut_that_is_no_share_is_refused(logits, cut):
    with pytest.raises(UsageError, match="a share from 0 to 1"):
        contrast(*logits, cut=cut)
