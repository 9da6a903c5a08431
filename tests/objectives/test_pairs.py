"""The objectives over pairs, by hand."""

from dataclasses import replace
from math import exp, log

import pytest
import torch

from turnsmith.objectives.pairs import dpo, ipo, orpo, spin
from turnsmith.testing import scores

SAME = {"chosen": [[-1.0, -2.0]], "rejected": [[-0.5]]}


def test_dpo_is_log_2_where_policy_and_reference_are_the_same():
    loss = dpo(scores(SAME, reference=SAME))
    assert loss.values.tolist() == [pytest.approx(log(2), abs=1e-12)]
    assert loss.metrics["margin"].tolist() == [0.0]
    assert loss.metrics["accuracy"].tolist() == [0.0]


def test_dpo_of_a_worked_margin():
    s = scores(
        {"chosen": [[-1.0, -1.0], [-4.0]], "rejected": [[-3.0], [-1.0, -1.0]]},
        reference={"chosen": [[-2.0, -2.0], [-3.0]], "rejected": [[-2.0], [-2.0, -1.5]]},
    )
    # Log-ratios: chosen (+1 +1) = 2 and -1; rejected -1 and (+1 +0.5) = 1.5. Margins 0.5 * 3 and 0.5 * -2.5.
    loss = dpo(s, beta=0.5)
    assert loss.values.tolist() == pytest.approx([log(1 + exp(-1.5)), log(1 + exp(1.25))], abs=1e-12)
    assert loss.metrics["margin"].tolist() == [1.5, -1.25]
    assert loss.metrics["accuracy"].tolist() == [1.0, 0.0]
    assert loss.metrics["reward_chosen"].tolist() == [1.0, -0.5]


def test_dpo_pushes_the_chosen_up_and_the_rejected_down_by_beta_times_the_probability_of_error():
    s = scores(SAME, reference=SAME)
    dpo(s, beta=0.3).values.sum().backward()
    assert s.logprobs.grad.tolist() == pytest.approx([-0.15, -0.15, 0.15])  # 0.3 * sigmoid(0) = 0.15


@pytest.mark.parametrize("beta", [1e-3, 0.1, 2.0])
def test_at_a_margin_of_0_the_gradient_of_dpo_is_half_of_beta_times_that_of_the_log_ratio(beta):
    s = scores(SAME, reference=SAME)
    (found,) = torch.autograd.grad(dpo(s, beta=beta).values.sum(), s.logprobs)
    (ratio,) = torch.autograd.grad((s.ratio("chosen") - s.ratio("rejected")).sum(), s.logprobs)
    torch.testing.assert_close(found, -beta / 2 * ratio, rtol=0, atol=1e-12)


def test_as_beta_goes_to_0_so_does_what_dpo_teaches_and_its_loss_is_log_2():
    s = scores(
        {"chosen": [[-5.0]], "rejected": [[-1.0]]}, reference={"chosen": [[-1.0]], "rejected": [[-4.0]]}
    )
    assert dpo(s, beta=1e-9).values.tolist() == [pytest.approx(log(2), abs=1e-8)]


def test_ipo_is_the_square_of_what_the_margin_lacks_or_exceeds():
    s = scores(
        {"chosen": [[-1.0, -1.0], [-4.0]], "rejected": [[-3.0], [-1.0, -1.0]]},
        reference={"chosen": [[-2.0, -2.0], [-3.0]], "rejected": [[-2.0], [-2.0, -1.5]]},
    )
    loss = ipo(s, target=2.0)  # margins 3 and -2.5, as above
    assert loss.values.tolist() == pytest.approx([1.0, 4.5**2])
    assert loss.metrics["margin"].tolist() == [3.0, -2.5]
    (found,) = torch.autograd.grad(loss.values.sum(), s.logprobs)
    assert found.tolist() == pytest.approx(
        [2.0, 2.0, -2.0, -9.0, 9.0, 9.0]
    )  # 2 (m - 2) on chosen, minus on rejected


def test_dpo_counts_a_token_by_its_weight():
    s = scores(
        {"chosen": [[-1.0, -1.0]], "rejected": [[-1.0]]},
        reference={"chosen": [[-2.0, -4.0]], "rejected": [[-1.0]]},
    )
    s = replace(s, weights=torch.tensor([1.0, 0.5, 1.0], dtype=torch.float64))
    assert dpo(s, beta=1.0).metrics["margin"].tolist() == [2.5]  # 1 * 1 + 0.5 * 3


def test_dpo_without_a_reference_is_an_error():
    with pytest.raises(ValueError, match="declare reference=True"):
        dpo(scores(SAME))


def test_the_parts_of_examples_may_stand_in_any_order():
    mixed = scores(
        {"rejected": [[-1.0], [-5.0]], "chosen": [[-2.0], [-1.0]]},
        reference={"rejected": [[0.0], [0.0]], "chosen": [[0.0], [0.0]]},
    )
    assert dpo(mixed, beta=1.0).metrics["margin"].tolist() == [-1.0, 4.0]


def test_a_part_that_is_missing_is_named():
    with pytest.raises(KeyError, match="no part 'chosen' in this batch; it has text"):
        dpo(scores({"text": [[-1.0]]}, reference={"text": [[-1.0]]}))


# ---------------------------------------------------------------------------------------------- spin

PAIR = {"chosen": [[-1.0, -1.0]], "rejected": [[-3.0]]}
OPPONENT = {"chosen": [[-2.0, -2.0]], "rejected": [[-2.0]]}  # log-ratios 2 and -1: margin 3


@pytest.mark.parametrize("beta", [0.01, 0.1, 5.0])
def test_spin_is_log_2_at_the_start_of_a_round_whatever_beta(beta):
    loss = spin(scores(SAME, reference=SAME), beta=beta)
    assert loss.values.tolist() == [pytest.approx(log(2), abs=1e-12)]
    assert loss.metrics["accuracy"].tolist() == loss.metrics["margin"].tolist() == [0.0]


def test_spin_at_its_start_moves_each_answer_by_half_of_beta():
    """-(beta / 2) * (grad log p(real) - grad log p(made)), per token."""
    s = scores(SAME, reference=SAME)
    spin(s, beta=0.3).values.sum().backward()
    assert s.logprobs.grad.tolist() == pytest.approx([-0.15, -0.15, 0.15])


def test_spin_of_a_worked_margin():
    assert spin(scores(PAIR, reference=OPPONENT), beta=0.5).values.tolist() == [
        pytest.approx(log(1 + exp(-1.5)), abs=1e-12)
    ]


@pytest.mark.parametrize(("beta", "expected"), [(0.1, 0.7), (0.5, 0.0)])
def test_spin_with_a_hinge_is_what_the_margin_lacks_to_1(beta, expected):
    assert spin(scores(PAIR, reference=OPPONENT), beta=beta, loss="hinge").values.tolist() == [
        pytest.approx(expected, abs=1e-12)
    ]


def test_spin_without_scale_is_log_2():
    assert spin(scores(PAIR, reference=OPPONENT), beta=0.0).values.tolist() == [pytest.approx(log(2))]


def test_spin_of_two_equal_answers_is_log_2_and_teaches_nothing():
    """The same tokens under the same parameters: the two log-ratios are one number."""
    shared = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    same = {"chosen": [[0.0, 0.0]], "rejected": [[0.0, 0.0]]}
    s = replace(scores(same, reference=same), logprobs=torch.cat([shared, shared]))
    loss = spin(s)
    loss.values.sum().backward()
    assert loss.values.tolist() == [pytest.approx(log(2))]
    assert shared.grad.tolist() == [0.0, 0.0]


def test_rounds_of_spin_bring_a_policy_to_the_distribution_of_the_data():
    """Twenty outputs of one token, all 400 pairs weighted by probability: the distance falls each round."""
    data = torch.linspace(1, 4, 20, dtype=torch.float64).softmax(0)
    policy = torch.zeros(20, dtype=torch.float64, requires_grad=True)
    real, made = torch.cartesian_prod(torch.arange(20), torch.arange(20)).T

    def distance():
        return 0.5 * (policy.detach().softmax(0) - data).abs().sum().item()  # total variation

    distances = [distance()]
    for _ in range(4):
        opponent = policy.detach().log_softmax(0)
        weights = data[real] * opponent.exp()[made]
        for _ in range(200):
            logprobs = policy.log_softmax(0)
            s = replace(
                scores({"chosen": [[0.0]] * 400, "rejected": [[0.0]] * 400}),
                logprobs=torch.stack([logprobs[real], logprobs[made]], 1).flatten(),
                reference=torch.stack([opponent[real], opponent[made]], 1).flatten(),
            )
            (slope,) = torch.autograd.grad((spin(s, beta=1.0).values * weights).sum(), policy)
            policy.data -= slope
        distances.append(distance())
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.25
    assert distances[-1] < 0.05


# ---------------------------------------------------------------------------------------------- orpo

HALF, EIGHTH = log(1 / 2), log(1 / 8)
# Mean probabilities 1/2 and 1/4 a token: odds 1 and 1/3, of which the first are 3 times the second.
ODDS = {"chosen": [[HALF, HALF]], "rejected": [[EIGHTH, HALF]]}


def test_orpo_is_the_mean_loss_of_the_chosen_answer_and_the_log_of_the_odds():
    loss = orpo(scores(ODDS), weight=0.3)
    assert loss.values.tolist() == [pytest.approx(log(2) + 0.3 * log(1 + 1 / 3), abs=1e-12)]
    assert loss.metrics["log_odds_ratio"].tolist() == [pytest.approx(log(3))]
    assert loss.metrics["accuracy"].tolist() == [1.0]
    assert loss.metrics["nats_chosen"].tolist() == [pytest.approx(log(2))]


def test_orpo_pushes_by_the_paper_s_equation_8():
    """(1 + 3)^-1 (grad log p_w / (1 - 1/2) - grad log p_l / (1 - 1/4)), spread over two tokens each."""
    s = scores(ODDS)
    orpo(s, weight=1.0).values.sum().backward()
    assert s.logprobs.grad.tolist() == pytest.approx([-0.75, -0.75, 1 / 6, 1 / 6], abs=1e-12)


def test_orpo_without_weight_is_the_likelihood_of_the_chosen_answer():
    assert orpo(scores(ODDS), weight=0.0).values.tolist() == [pytest.approx(log(2), abs=1e-12)]


def test_orpo_of_two_equal_answers_adds_log_2():
    same = {"chosen": [[-1.0, -2.0]], "rejected": [[-2.0, -1.0]]}
    assert orpo(scores(same), weight=1.0).values.tolist() == [pytest.approx(1.5 + log(2), abs=1e-12)]


def test_orpo_takes_lengths_out_unlike_dpo():
    """Twice the same tokens has the same mean."""
    twice = {"chosen": [[HALF] * 4], "rejected": [[EIGHTH, HALF, EIGHTH, HALF]]}
    assert orpo(scores(twice)).values.tolist() == pytest.approx(orpo(scores(ODDS)).values.tolist())


def test_orpo_stays_finite_where_an_answer_is_certain():
    s = scores({"chosen": [[0.0]], "rejected": [[-60.0]]})
    loss = orpo(s)
    loss.values.sum().backward()
    assert loss.values.tolist() == [pytest.approx(0.0, abs=1e-6)]
    assert s.logprobs.grad.isfinite().all()
