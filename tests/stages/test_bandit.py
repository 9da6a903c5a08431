"""Draws of the bandit's data policy, and its probabilities."""

import math
import random
from collections import Counter

import pytest

from turnsmith.scorers.bump import ACTIONS
from turnsmith.stages.bandit import bandit, data_policy
from turnsmith.testing import conversations


def test_the_data_policy_is_the_cauchy_distribution_between_the_edges_of_bins():
    policy = data_policy()
    assert len(policy) == 100
    assert sum(policy) == pytest.approx(1, abs=1e-12)
    # Bin 20 is -0.6 to -0.58; arctanh and the Cauchy distribution function around -0.7, by hand.
    low, high = -0.5 * math.log(1.6 / 0.4), -0.5 * math.log(1.58 / 0.42)
    expected = (math.atan((high + 0.7) / 0.4) - math.atan((low + 0.7) / 0.4)) / math.pi
    assert policy[20] == pytest.approx(expected, abs=1e-12)
    # Most of it lies in the first bin and around the 20th, and little where the far peak is.
    assert max(range(100), key=policy.__getitem__) == 0
    assert max(range(1, 99), key=policy.__getitem__) in range(15, 25)
    assert sum(policy[60:81]) < 0.06


def test_draws_are_as_frequent_as_the_policy_says():
    made = list(bandit(conversations(2), count=10_000, rng=random.Random(0)))
    assert len(made) == 10_002
    assert made[2].id == "bandit-0"
    asked, taken = made[2].parts["text"].messages
    assert (asked.role, asked.content, taken.role) == ("user", "0", "assistant")
    found = Counter(ACTIONS.index(one.parts["text"].messages[-1].content) for one in made[2:])
    for action, probability in enumerate(data_policy()):
        deviation = math.sqrt(10_000 * probability * (1 - probability))
        assert abs(found[action] - 10_000 * probability) < 4.5 * deviation, action
