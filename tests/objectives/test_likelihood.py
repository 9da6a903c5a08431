"""The likelihood objectives, by hand."""

from turnsmith.objectives.likelihood import sft
from turnsmith.testing import scores


def test_sft_is_minus_the_log_prob_of_each_trained_token():
    loss = sft(scores({"text": [[-0.5, -2.0], [-3.0]]}))
    assert loss.values.tolist() == [0.5, 2.0, 3.0]
    assert loss.metrics == {}
