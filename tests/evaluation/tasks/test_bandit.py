"""What policies over the actions of the bandit earn, by hand."""

import math
from functools import partial

import pytest
import torch
from tokenizers.normalizers import Replace

from turnsmith.data.batch import pad
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError, ModelError
from turnsmith.evaluation.suite import Subject
from turnsmith.evaluation.tasks.bandit import Bandit
from turnsmith.models.networks.markov import markov
from turnsmith.models.score import Scoring
from turnsmith.scorers.bump import ACTIONS, bump
from turnsmith.stages.bandit import data_policy
from turnsmith.testing import TinyBench, chat
from turnsmith.types import Example, Message

REWARD = partial(bump, peak=70)


def subject(probabilities=None):
    """A policy over all tokens, whatever stands before: these probabilities of actions, else uniform."""
    model, words = markov(hidden=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        if probabilities is not None:
            model.lm_head.bias.fill_(-1e4)
            for action, probability in zip(ACTIONS, probabilities, strict=True):
                model.lm_head.bias[words(action)["input_ids"][0]] = math.log(max(probability, 1e-30))
    return Subject("policy", Scoring(model).eval(), Renderer(words), lambda *_, **__: [], pad)


def measured(policy):
    contexts = [
        Example({"text": chat(f"u: {number}").then(Message("assistant", "x"))}, {}, {"id": f"c-{number}"})
        for number in range(2)
    ]
    items = Bandit(on="contexts", reward=REWARD).measure(policy, TinyBench({"contexts": contexts}))
    assert [item.id for item in items] == ["c-0", "c-1"]
    assert items[0].values == pytest.approx(items[1].values)
    return items[0].values


def test_a_uniform_policy_earns_the_mean_and_what_it_says_beside_actions_earns_nothing():
    found = measured(subject())
    rewards = [math.exp(-(((action - 70) / 10) ** 2)) for action in range(100)]
    assert found["reward"] == pytest.approx(sum(rewards) / 259, abs=1e-6)  # 259 tokens, 100 of them actions
    assert found["entropy"] == pytest.approx(math.log(100), abs=1e-5)
    expected = sum(math.log(0.01 / one) for one in data_policy()) / 100
    assert found["divergence"] == pytest.approx(expected, abs=1e-5)


def test_the_data_policy_is_at_no_divergence_from_itself():
    found = measured(subject(data_policy()))
    assert found["divergence"] == pytest.approx(0, abs=1e-5)
    rewards = (math.exp(-(((action - 70) / 10) ** 2)) for action in range(100))
    assert found["reward"] == pytest.approx(
        sum(map(math.prod, zip(rewards, data_policy(), strict=True))), abs=1e-6
    )


def test_one_action_earns_its_reward_and_has_no_entropy():
    found = measured(subject([float(action == 65) for action in range(100)]))
    assert found["reward"] == pytest.approx(math.exp(-0.25), abs=1e-6)
    assert found["entropy"] == pytest.approx(0, abs=1e-6)
    assert found["divergence"] == pytest.approx(-math.log(data_policy()[65]), abs=1e-5)


def test_a_context_is_needed_and_a_token_for_each_action():
    alone = Example({"text": chat("a: x")}, {}, {"id": "alone"})
    with pytest.raises(DataError, match="example 'alone': `bandit` needs a context and an action"):
        Bandit(on="data", reward=REWARD).measure(subject(), TinyBench({"data": [alone]}))
    policy = subject()
    policy.renderer.tokenizer.backend_tokenizer.normalizer = Replace("a", "aa")
    with pytest.raises(ModelError, match="needs a model with a token for each character"):
        Bandit(on="data", reward=REWARD).measure(policy, TinyBench({"data": []}))
