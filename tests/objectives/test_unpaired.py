"""KTO by hand, and what a step is compared with: the same however it is cut, and no part of the gradient."""

from dataclasses import replace
from functools import partial
from math import exp, log

import pytest
import torch

from turnsmith.data.batch import pack, pad
from turnsmith.errors import UsageError
from turnsmith.objectives.unpaired import KTO, mismatched
from turnsmith.testing import model, scores, tokens
from turnsmith.train.look import Ahead
from turnsmith.train.method import Method
from turnsmith.types import Rendered

START = {"text": [[-1.0, -2.0], [-0.5]]}


def judged(moved, label, baseline=0.0):
    """Scores of two answers with the same label, whose log-ratios are 2 * moved and moved."""
    now = {"text": [[x + moved for x in ones] for ones in START["text"]]}
    values = {"label": [label] * 2, "baseline": [baseline] * 2}
    return scores(now, reference=START, values=values)


@pytest.mark.parametrize(("label", "weight", "slope"), [(1.0, 1.5, -0.15), (0.0, 0.5, 0.05)])
def test_where_policy_and_reference_are_the_same_the_loss_is_half_of_the_weight(label, weight, slope):
    s = judged(0.0, label)
    loss = KTO(beta=0.4, desirable=1.5, undesirable=0.5)(s)
    loss.values.sum().backward()
    assert loss.values.tolist() == [weight / 2] * 2
    assert s.logprobs.grad.tolist() == pytest.approx([slope] * 3, abs=1e-12)  # weight * beta / 4


def test_answers_are_compared_with_the_baseline():
    # Log-ratios 6 and 3, less 2, times 0.5: 2 and 0.5.
    wanted = KTO(beta=0.5)(judged(3.0, 1.0, baseline=2.0))
    assert wanted.values.tolist() == pytest.approx([1 / (1 + exp(2.0)), 1 / (1 + exp(0.5))], abs=1e-12)
    unwanted = KTO(beta=0.5)(judged(3.0, 0.0, baseline=2.0))
    assert unwanted.values.tolist() == pytest.approx([1 / (1 + exp(-2.0)), 1 / (1 + exp(-0.5))], abs=1e-12)
    assert wanted.metrics["accuracy"].tolist() == [1.0, 1.0]
    assert unwanted.metrics["margin"].tolist() == [-2.0, -0.5]
    assert wanted.metrics["reward_chosen"].tolist() == [3.0, 1.5]
    assert unwanted.metrics["reward_chosen"].tolist() == [0.0, 0.0]


def test_lengths_and_the_way_from_the_start_are_recorded():
    half = {"text": [[-1.0 - log(2), -2.0], [-0.5]]}  # of three tokens one is half as likely as at the start
    found = KTO(compared=False)(scores(half, reference=START, values={"label": [1.0, 0.0]})).metrics
    assert found["tokens_answer"].tolist() == [2.0, 1.0]
    assert found["from_start"].tolist() == pytest.approx([(0.5 - log(0.5) - 1) / 2, 0.0])


def test_the_other_label_with_the_other_sign_is_the_same_loss():
    one, other = KTO()(judged(3.0, 1.0)), KTO()(judged(-3.0, 0.0))
    torch.testing.assert_close(one.values, other.values, rtol=0, atol=1e-12)
    assert (one.values != 0.5).all()


# ------------------------------------------------------------------------------ what a step is compared with


def example(number, prompt, answer, label=1.0):
    return Rendered(str(number), {"text": (tokens([*prompt, *answer], len(answer)),)}, {"label": label})


WINDOW = [
    example(0, [10, 11, 12], [20, 21]),
    example(1, [13, 14], [22, 23, 24], label=0.0),
    example(2, [15], [25]),
]


def test_prompts_are_paired_with_the_answer_of_the_next_example():
    found = [one.parts["text"][0] for one in mismatched(WINDOW)]
    assert [one.inputs.tolist() for one in found] == [
        [10, 11, 12, 22, 23, 24],
        [13, 14, 25],
        [15, 20, 21],
    ]
    assert [one.weights.tolist() for one in found] == [[0, 0, 0, 1, 1, 1], [0, 0, 1], [0, 1, 1]]


@pytest.fixture
def started(looking):
    return partial(looking, Method(KTO(), "example", reference=True, values=("label",)))


def baselines(ahead, window=WINDOW):
    valued, flops = ahead.valued(window, 0, 1, 1e-3)
    assert flops > 0
    return [one.values["baseline"] for one in valued]


def by_hand(policy):
    """The log-ratios of the three joined texts, each read alone by the models as they come."""
    texts = [([10, 11, 12], [22, 23, 24]), ([13, 14], [25]), ([15], [20, 21])]
    total = 0.0
    for sign, seed in ((1, policy), (-1, 0)):
        whole = model(seed=seed).eval()
        for prompt, answer in texts:
            with torch.no_grad():
                logprobs = whole(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            places = range(len(prompt), len(prompt) + len(answer))
            total += sign * sum(float(logprobs[at - 1, (prompt + answer)[at]]) for at in places)
    return total / 3


def test_the_baseline_is_the_mean_log_ratio_of_the_joined_texts_and_never_below_0(started):
    expected = {policy: by_hand(policy) for policy in (1, 2, 3, 4)}
    assert min(expected.values()) < 0 < max(expected.values())  # both sides of 0 are tried
    for policy, mean in expected.items():
        # fp32 sums of six log-probs.
        assert baselines(started(policy=policy)) == pytest.approx([max(0.0, mean)] * 3, abs=1e-4)


def test_the_baseline_is_0_where_policy_and_reference_are_the_same(started):
    assert baselines(started(policy=0)) == [0.0] * 3


@pytest.mark.parametrize(("row", "layout"), [(1, pack), (1, pad), (10**6, pad)])
def test_the_baseline_is_the_same_however_the_window_is_cut(started, row, layout):
    policy = max((1, 2, 3, 4), key=by_hand)
    whole = baselines(started(policy=policy))
    assert whole[0] > 0
    assert baselines(started(policy=policy, row=row, layout=layout)) == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_step_may_have_answers_of_one_kind_alone(started, label):
    alike = [replace(one, values={"label": label}) for one in WINDOW]
    assert len(baselines(started(), alike)) == 3


def test_a_step_of_one_example_is_refused(started):
    with pytest.raises(UsageError, match=r"a step of one example .* raise fit\.batch"):
        baselines(started(), WINDOW[:1])


def test_without_a_comparison_nothing_is_asked_and_one_example_is_a_step():
    assert KTO(compared=False).before_step(None) == {}


def test_without_a_live_reference_it_does_not_begin(started):
    ahead = started()
    make = partial(Ahead, ahead.scoring, ahead.method, ahead.options, {}, seed=0)
    with pytest.raises(UsageError, match=r"set fit\.reference to live"):
        make()
