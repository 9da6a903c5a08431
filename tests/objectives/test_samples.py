"""The objectives over several replies to a prompt, by hand."""

import math

import pytest
import torch

from turnsmith.objectives.samples import best_of_n, reinforce, rwr
from turnsmith.testing import scores
from turnsmith.types import Path, Scores

PROMPTS = [[(-1.0, 0.5), (-2.0, 3.0), (-4.0, 0.5)], [(-3.0, 2.0), (-0.5, 1.0)]]  # (log-prob, reward)


def given(*prompts, logprobs=None):
    """Scores of replies of one token each, in which prompts may have different numbers of replies."""
    flat = [reply for replies in prompts for reply in replies]
    said = torch.tensor([one for one, _ in flat], dtype=torch.float64) if logprobs is None else logprobs
    return Scores(
        logprobs=said if said.requires_grad else said.requires_grad_(),
        weights=torch.ones(len(flat), dtype=torch.float64),
        turns=torch.zeros(len(flat), dtype=torch.long),
        path=torch.arange(len(flat)),
        paths=tuple(
            Path(owner, "replies", number)
            for owner, ones in enumerate(prompts)
            for number in range(len(ones))
        ),
        examples=len(prompts),
        values={"reward": torch.tensor([reward for _, reward in flat], dtype=torch.float64)},
    )


def slopes(objective, *prompts, **options):
    """The derivative of the sum of the losses with respect to each reply's log-prob."""
    s = given(*prompts)
    loss = objective(s, **options)
    return torch.autograd.grad(loss.values.sum(), s.logprobs)[0].tolist()


def test_the_best_reply_of_each_prompt_becomes_likelier():
    loss = best_of_n(given(*PROMPTS))
    assert loss.values.tolist() == [2.0, 3.0]
    assert slopes(best_of_n, *PROMPTS) == [0, -1, 0, -1, 0]
    assert loss.metrics["reward"].tolist() == pytest.approx([4 / 3, 1.5])
    assert loss.metrics["reward_best"].tolist() == [3.0, 2.0]


def test_the_worst_reply_becomes_less_likely_by_as_much_as_is_said_and_of_equals_it_is_the_first():
    assert best_of_n(given(*PROMPTS), negative=0.5).values.tolist() == [2.0 - 0.5, 3.0 - 0.25]
    assert slopes(best_of_n, *PROMPTS, negative=0.5) == [0.5, -1, 0, -1, 0.5]


def test_replies_are_weighted_by_the_exponential_of_their_rewards():
    loss = rwr(given(*PROMPTS), temperature=2.0)
    first = (math.exp(0.25) * 1 + math.exp(1.5) * 2 + math.exp(0.25) * 4) / 3
    second = (math.exp(1.0) * 3 + math.exp(0.5) * 0.5) / 2
    assert loss.values.tolist() == pytest.approx([first, second], abs=1e-12)


def test_no_weight_is_larger_than_the_largest():
    assert slopes(rwr, [(-1.0, 1000.0), (-1.0, 0.0)], largest=5.0) == [-2.5, -0.5]
    for name in ("temperature", "largest"):
        with pytest.raises(ValueError, match=f"rwr: {name} is 0, and has to be above 0"):
            rwr(given(*PROMPTS), **{name: 0})


@pytest.mark.parametrize(
    ("options", "advantages"),
    [
        ({"normalise": "none"}, [1.0, 4.0, 1.0]),
        ({"normalise": "mean"}, [-1.0, 2.0, -1.0]),
        ({}, [-1 / 2**0.5, 2 / 2**0.5, -1 / 2**0.5]),  # deviations -1, 2, -1: their mean square is 2
        ({"normalise": "mean", "positive": True}, [0.0, 3.0, 0.0]),
        ({"normalise": "none", "positive": True}, [0.0, 3.0, 0.0]),
    ],
)
def test_replies_are_weighted_by_their_advantage(options, advantages):
    prompt = [(-1.0, 1.0), (-2.0, 4.0), (-3.0, 1.0)]
    assert slopes(reinforce, prompt, **options) == pytest.approx([-one / 3 for one in advantages], abs=1e-12)


def test_advantages_of_one_prompt_do_not_depend_on_another():
    alone = [slope for prompt in PROMPTS for slope in slopes(reinforce, prompt)]
    assert slopes(reinforce, *PROMPTS) == pytest.approx(alone, abs=1e-12)


# ------------------------------------------------------------------------------ the checks of the card


def test_equal_rewards_teach_nothing_but_to_best_of_n_alone():
    equal = [[(-1.0, 0.3), (-2.0, 0.3), (-3.0, 0.3)], [(-1.0, -7.1), (-2.0, -7.1)]]
    assert slopes(reinforce, *equal) == [0] * 5
    assert slopes(reinforce, *equal, normalise="mean") == pytest.approx([0] * 5, abs=1e-15)
    assert slopes(best_of_n, *equal, negative=1.0) == [0] * 5
    assert slopes(best_of_n, *equal) == [-1, 0, 0, -1, 0]


@pytest.mark.parametrize("normalise", ["mean", "deviation", "none"])
def test_advantages_that_are_to_be_positive_are_none_below_0_and_the_least_of_each_prompt_is_0(normalise):
    found = slopes(reinforce, *PROMPTS, normalise=normalise, positive=True)
    for own in (found[:3], found[3:]):
        assert max(own) == 0
        assert min(own) < 0  # likelihoods go up, none goes down


def test_one_reply_has_no_advantage():
    assert slopes(reinforce, [(-1.0, 5.0)]) == [0]
    assert slopes(best_of_n, [(-1.0, 5.0)], negative=1.0) == [0]
    assert slopes(rwr, [(-1.0, 0.0)]) == [-1]


LOGITS = torch.tensor([0.3, -1.2, 0.8, 0.1, -0.4], dtype=torch.float64)
TARGET = torch.tensor([0.1, 0.4, 0.2, 0.25, 0.05], dtype=torch.float64)


def gradient(objective, rewards, **options):
    """Of the loss with respect to the logits, where every action is drawn once."""
    logits = LOGITS.clone().requires_grad_()
    s = given([(0.0, float(reward)) for reward in rewards], logprobs=logits.log_softmax(0))
    return torch.autograd.grad(objective(s, **options).values.sum(), logits)[0]


def differences(loss):
    """The derivative of a function of the logits by central differences."""
    steps = 1e-5 * torch.eye(len(LOGITS), dtype=torch.float64)
    return torch.stack([(loss(LOGITS + step) - loss(LOGITS - step)) / 2e-5 for step in steps])


def test_reinforce_follows_the_gradient_of_the_reverse_divergence():
    """pi_i (log(pi_i / p_i) - KL), by finite differences, and by the rewards log(p_i / pi_i), whose mean over
    what pi draws is -KL."""

    def reverse(logits):
        pi = logits.softmax(0)
        return (pi * (pi / TARGET).log()).sum()

    pi = LOGITS.softmax(0)
    closed = pi * ((pi / TARGET).log() - reverse(LOGITS))
    torch.testing.assert_close(differences(reverse), closed, rtol=0, atol=1e-9)
    drawn = len(pi) * pi * (TARGET / pi).log()  # each action once, as often as pi draws it
    torch.testing.assert_close(gradient(reinforce, drawn, normalise="none"), closed, rtol=0, atol=1e-12)


def test_weighted_regression_follows_the_gradient_of_the_forward_divergence():
    """pi_i - p_i, by finite differences, and by weights that make each action as frequent as in p."""

    def forward(logits):
        return (TARGET * (TARGET / logits.softmax(0)).log()).sum()

    closed = LOGITS.softmax(0) - TARGET
    torch.testing.assert_close(differences(forward), closed, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradient(rwr, (len(TARGET) * TARGET).log()), closed, rtol=0, atol=1e-12)


def test_a_reply_counts_all_its_tokens():
    s = scores({"replies": [[-1.0, -2.0]]}, values={"reward": [1.0]})
    assert best_of_n(s).values.tolist() == [3.0]
