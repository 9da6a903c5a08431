"""The objectives over pairs, by hand."""

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch

from turnsmith.objectives.pairs import dpo, ipo, orpo, refuel, spin
from turnsmith.testing import scores
from turnsmith.types import Path, Scores

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
    loss = ipo(s, target=2.0, average=False)  # margins 3 and -2.5, as above
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


# -------------------------------------------------------------------------------------------- refuel

ONES = {"first": [[-1.0, -2.0], [-0.5]], "second": [[-0.5], [-1.0, -1.0]]}
RETURNS = {"return_first": [1.0, 0.25], "return_second": [0.5, 1.0]}


def test_refuel_before_the_first_step_is_the_square_of_eta_times_the_difference_of_returns():
    loss = refuel(scores(ONES, reference=ONES, values=RETURNS), eta=2.0)
    assert loss.values.tolist() == [1.0, 2.25]  # (2 * 0.5) ** 2 and (2 * -0.75) ** 2
    assert loss.metrics["gap"].tolist() == [0.0, 0.0]
    assert loss.metrics["target"].tolist() == [1.0, -1.5]


def test_refuel_of_worked_ratios():
    now = {"first": [[-1.0, -1.0]], "second": [[-2.0]]}  # log-ratios 0 + 1 and -1.5: a gap of 2.5
    loss = refuel(
        scores(now, reference={"first": [[-1.0, -2.0]], "second": [[-0.5]]}, values=one(RETURNS)), eta=4.0
    )
    assert loss.values.tolist() == [0.25]  # (2.5 - 4 * 0.5) ** 2
    assert loss.metrics["agreement"].tolist() == [1.0]


def one(returns):
    return {name: values[:1] for name, values in returns.items()}


def test_refuel_of_equal_returns_is_0_at_the_start_and_teaches_nothing():
    s = scores(ONES, reference=ONES, values={"return_first": [0.5, 2.0], "return_second": [0.5, 2.0]})
    loss = refuel(s, eta=7.0)
    loss.values.sum().backward()
    assert loss.values.tolist() == [0.0, 0.0]
    assert s.logprobs.grad.abs().max() == 0


OTHERS = {"first": [[-1.5, -2.5], [-0.25]], "second": [[-0.75], [-1.5, -1.0]]}


def test_refuel_minds_neither_the_order_of_the_two_nor_a_constant_in_all_rewards():
    given = refuel(scores(ONES, reference=OTHERS, values=RETURNS), eta=2.0).values
    turned = [{"first": parts["second"], "second": parts["first"]} for parts in (ONES, OTHERS)]
    swapped = {"return_first": RETURNS["return_second"], "return_second": RETURNS["return_first"]}
    assert refuel(scores(turned[0], reference=turned[1], values=swapped), eta=2.0).values.tolist() == (
        given.tolist()
    )
    raised = {name: [value + 3.0 for value in values] for name, values in RETURNS.items()}
    assert refuel(scores(ONES, reference=OTHERS, values=raised), eta=2.0).values.tolist() == given.tolist()


def table(logprobs, reference, returns):
    """Scores of pairs of answers of one token. logprobs, reference: (E, 2). returns: (E, 2)."""
    count = len(logprobs)
    paths = tuple(Path(owner, part, 0) for owner in range(count) for part in ("first", "second"))
    return Scores(
        logprobs=logprobs.flatten(),
        weights=torch.ones(2 * count, dtype=torch.float64),
        turns=torch.zeros(2 * count, dtype=torch.long),
        path=torch.arange(2 * count),
        paths=paths,
        examples=count,
        reference=reference.flatten(),
        values={"return_first": returns[:, 0], "return_second": returns[:, 1]},
    )


def test_refuel_has_its_minimum_on_one_state_where_the_closed_form_says():
    """The minimiser is start * exp(eta * Q) / Z: all pairs of four answers, Newton's method as L-BFGS."""
    q = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=torch.float64)
    start = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
    logits = start.log().clone().requires_grad_()
    pairs = torch.tensor([(a, b) for a in range(4) for b in range(4) if a != b])
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16)

    def loss():
        optimizer.zero_grad()
        value = refuel(
            table(logits.log_softmax(0)[pairs], start.log()[pairs], q[pairs]), eta=1.7
        ).values.sum()
        value.backward()
        return value

    optimizer.step(loss)
    expected = start * (1.7 * q).exp()
    torch.testing.assert_close(logits.softmax(0), expected / expected.sum(), rtol=0, atol=1e-6)


REWARDS = torch.tensor([[0.2, 0.5, 0.1], [0.0, 0.0, 1.0]], dtype=torch.float64)
RUNS, PAIRS = 5, 200


def logprobs(logits):
    """(RUNS, 8): of the two states to go to, and of the three answers in each."""
    answers = logits[:, 2:].view(RUNS, 2, 3).log_softmax(2).flatten(1)
    return torch.cat([logits[:, :2].log_softmax(1), answers], 1)


def play(logits, parted, rng):
    """Pairs as places in the log-probs of all runs (P, 2), returns (P, 2), and how often each came.

    parted: for each run and pair the state in which the two part, -1 where they part before it.
    """
    rows = []
    for run, own in enumerate(logprobs(logits).exp().numpy()):
        at = parted[run][:, None]
        tried = np.where(at < 0, rng.random((PAIRS, 2)) < own[1], at)
        until = own[2:].reshape(2, 3).cumsum(1)[tried, :2]
        said = (rng.random((PAIRS, 2, 1)) > until).sum(2)
        places = 8 * run + np.where(at < 0, tried, 2 + 3 * tried + said)
        rows.append(np.concatenate([places, REWARDS.numpy()[tried, said]], 1))
    pairs, counts = torch.tensor(np.concatenate(rows)).unique(dim=0, return_counts=True)
    return pairs[:, :2].long(), pairs[:, 2:], counts


def iterate(iterations, part):
    """The mean reward of the policies after each of so many regressions. part: gives for each run where its
    pairs part, from the probability with which it goes to the state 1."""
    rng = np.random.default_rng(0)
    logits = torch.zeros(RUNS, 8, dtype=torch.float64)
    logits[:, 0], logits[:, 1] = 2.0, -2.0
    found = []
    for _ in range(iterations):
        parted = [part(rng, float(own[:2].softmax(0)[1])) for own in logits]
        places, returns, counts = play(logits, parted, rng)
        start = logprobs(logits).flatten()[places]
        for _ in range(60):
            logits.requires_grad_()
            s = table(logprobs(logits).flatten()[places], start, returns)
            (slope,) = torch.autograd.grad((counts * refuel(s, eta=2.0).values).sum() / PAIRS, logits)
            logits = (logits - 0.3 * slope).detach()
        worth = (logits[:, 2:].view(RUNS, 2, 3).softmax(2) * REWARDS).sum(2)
        found.append(float((logits[:, :2].softmax(1) * worth).sum(1).mean()))
    return found


def test_refuel_learns_which_first_turn_pays_later_and_regression_on_last_turns_alone_does_not():
    """Two turns: the first chooses a state, the second earns there. The start prefers the poor state by
    e^4 : 1, so that learning at the last turn alone, behind the start's first turns, ends at
    0.982 * 0.5 + 0.018 * 1 = 0.509; the best policy earns 1."""

    def last(rng, _):
        return (rng.random(PAIRS) < 1 / (1 + exp(4))).astype(int)

    def both(rng, other):
        return np.where(rng.random(PAIRS) < 0.5, -1, rng.random(PAIRS) < other)

    assert iterate(6, last)[-1] == pytest.approx(0.509, abs=0.02)  # the card's run: 0.51
    found = iterate(15, both)
    assert 0.5 < found[5] < 0.7  # the card's run: 0.56
    assert 0.85 < found[14] < 1.0  # the card's run: 0.92, and 1.00 later
