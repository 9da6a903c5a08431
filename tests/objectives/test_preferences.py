"""The family of losses over pairs: what all keep, and each by hand."""

from dataclasses import replace
from functools import partial
from math import exp, log, log1p

import pytest
import torch

from turnsmith.errors import UsageError
from turnsmith.objectives import margins, pairs
from turnsmith.objectives.margins import Pair
from turnsmith.objectives.steps import Aot, Bco
from turnsmith.testing import scores

LOG_3 = log(3)  # sigmoid(log 3) = 3/4 and sigmoid(-log 3) = 1/4

START = {"chosen": [[-2.0, -2.0]], "rejected": [[-2.0]]}
MOVED = {"chosen": [[-1.0, -1.0]], "rejected": [[-3.0]]}  # log-ratios 2 and -1: margin 3; per token 1 and -1

# At policy = reference: the loss, and its slope with respect to the log-ratio of chosen and of rejected.
AT_START = {
    "dpo": (partial(pairs.dpo, beta=0.4), log(2), -0.2, 0.2),  # -beta / 2
    "ipo summed": (partial(pairs.ipo, target=2.5, average=False), 6.25, -5.0, 5.0),  # -1 / tau, tau = 0.2
    "hinge": (partial(pairs.hinge, beta=0.4), 1.0, -0.4, 0.4),
    # u f''(u) at u = 1: 1/2 of Jensen and Shannon's, 1 of those of alpha.
    "f_dpo js": (partial(pairs.f_dpo, beta=0.4), log(2), -0.1, 0.1),
    "f_dpo alpha": (partial(pairs.f_dpo, beta=0.4, divergence="alpha", alpha=0.25), log(2), -0.2, 0.2),
    "robust": (partial(pairs.robust, beta=0.4, flipped=0.25), log(2), -0.4, 0.4),  # -beta / 2 / (1 - 1/2)
    "conservative": (  # -beta * (1/2 - flipped)
        partial(pairs.robust, beta=0.4, flipped=0.25, form="conservative"), log(2), -0.1, 0.1
    ),
    # KL of (1/2, 1/2) from (3/4, 1/4): log(1/2) - (log(3/4) + log(1/4)) / 2; slope beta q (1 - q) (log of the
    # odds of q, 0, less those of p, log 3).
    "exo": (
        partial(pairs.exo, beta=0.4, flipped=0.25), log(2) - log(3) / 2, -0.1 * log(3), 0.1 * log(3)
    ),
    "sppo": (partial(pairs.sppo, eta=4.0), 8.0, -4.0, 4.0),  # 2^2 + 2^2, and 2 * (0 - 2)
    "apo zero": (partial(pairs.apo, beta=0.4), 1.0, -0.1, 0.1),  # beta / 4 each
    "apo down": (partial(pairs.apo, beta=0.4, towards="down"), 1.0, 0.0, 0.1),  # 1/4 - 1/4 on chosen
    "bco": (Bco(beta=0.4), 2 * log(2), -0.2, 0.2),
    "nca": (partial(pairs.nca, beta=0.4), 2 * log(2), -0.1, 0.1),  # -1/2 + 1/4; 1/4
    # (log 2 + 1) / 2. The slope of m is 1/4 / tau, times exp - logistic = 1 - log 2; the rest -1/4 - 1/2.
    "discopop": (
        partial(pairs.discopop, beta=0.4, tau=0.5), (log(2) + 1) / 2,
        0.4 * (0.5 * (1 - log(2)) - 0.75), -0.4 * (0.5 * (1 - log(2)) - 0.75),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("row", "value", "chosen", "rejected"), AT_START.values(), ids=AT_START)
def test_loss_and_gradient_where_policy_and_reference_are_the_same(row, value, chosen, rejected):
    s = scores(START, reference=START)
    loss = row(s)
    loss.values.sum().backward()
    assert loss.values.tolist() == [pytest.approx(value, abs=1e-12)]
    assert s.logprobs.grad.tolist() == pytest.approx([chosen, chosen, rejected], abs=1e-12)


@pytest.mark.parametrize(
    ("row", "value"),
    [(partial(pairs.ipo, target=2.5), 6.25), (partial(pairs.ln_dpo, beta=0.4), log(2))],
    ids=["ipo", "ln_dpo"],
)
def test_what_is_averaged_spreads_its_gradient_over_the_tokens(row, value):
    s = scores(START, reference=START)
    loss = row(s)
    loss.values.sum().backward()
    slope = {6.25: 5.0}.get(value, 0.2)  # 2 * 2.5 = 1 / tau, or beta / 2; the chosen answer has two tokens
    assert loss.values.tolist() == [pytest.approx(value, abs=1e-12)]
    assert s.logprobs.grad.tolist() == pytest.approx([-slope / 2, -slope / 2, slope], abs=1e-12)


# ------------------------------------------------------------------------- links, at two points each

ALONE = {
    "logistic": (margins.logistic, {0.0: log(2), LOG_3: log(4 / 3)}),  # -log(3/4)
    "hinged": (margins.hinged, {0.25: 0.75, 1.5: 0.0}),
    "squared": (partial(margins.squared, target=2.0), {2.0: 0.0, 3.5: 2.25}),
    # l(log 3) = log(4/3), l(-log 3) = log 4.
    "conservative": (
        partial(margins.conservative, flipped=0.25),
        {LOG_3: 0.75 * log(4 / 3) + 0.25 * log(4), -LOG_3: 0.75 * log(4) + 0.25 * log(4 / 3)},
    ),
    "unbiased": (
        partial(margins.unbiased, flipped=0.25),
        {LOG_3: 1.5 * log(4 / 3) - 0.5 * log(4), -LOG_3: 1.5 * log(4) - 0.5 * log(4 / 3)},
    ),
    # q = 3/4 = p; q = 1/4: 1/4 log(1/3) + 3/4 log 3 = log(3) / 2.
    "reverse_divergence": (
        partial(margins.reverse_divergence, flipped=0.25), {LOG_3: 0.0, -LOG_3: log(3) / 2}
    ),
    # m = sigmoid(2 log 3) = 9/10, exp(-log 3) = 1/3; and m = 1/10, exp(log 3) = 3.
    "modulated": (
        partial(margins.modulated, temperature=0.5),
        {LOG_3: 0.1 * log(4 / 3) + 0.9 / 3, -LOG_3: 0.9 * log(4) + 0.1 * 3},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("link", "points"), ALONE.values(), ids=ALONE)
def test_a_link_of_a_margin_at_two_points(link, points):
    found = link(torch.tensor(list(points), dtype=torch.float64))
    assert found.tolist() == pytest.approx(list(points.values()), abs=1e-12)


BOTH = {
    "square_apart": (partial(margins.square_apart, target=1.0), {(1.0, -1.0): 0.0, (0.5, 2.0): 9.25}),
    # sigmoid(-log 3) + sigmoid(-log 3) = 1/2, and 3/4 + 3/4.
    "zero": (partial(margins.anchored, towards="zero"), {(LOG_3, -LOG_3): 0.5, (-LOG_3, LOG_3): 1.5}),
    # 3/4 + sigmoid(-log 3) = 1 where the rejected one is at 0; 1/4 + sigmoid(2 log 3) = 1/4 + 9/10.
    "down": (partial(margins.anchored, towards="down"), {(LOG_3, 0.0): 1.0, (-LOG_3, LOG_3): 1.15}),
    # With a shift of log 3: l(0) + l(2 log 3 = log 9), l(-log 3) + l(0).
    "classified": (
        partial(margins.classified, shift=LOG_3),
        {(LOG_3, -LOG_3): log(2) + log(10 / 9), (0.0, LOG_3): log(4) + log(2)},
    ),
    # l(log 3) + (l(-log 3) + l(log 3)) / 2; l(-log 3) + (l(log 3) + l(-log 3)) / 2.
    "contrasted": (
        margins.contrasted,
        {
            (LOG_3, -LOG_3): 1.5 * log(4 / 3) + 0.5 * log(4),
            (-LOG_3, LOG_3): 1.5 * log(4) + 0.5 * log(4 / 3),
        },
    ),
}


@pytest.mark.parametrize(("link", "points"), BOTH.values(), ids=BOTH)
def test_a_link_of_two_rewards_at_two_points(link, points):
    chosen, rejected = torch.tensor(list(points), dtype=torch.float64).T
    assert link(Pair(chosen, rejected)).tolist() == pytest.approx(list(points.values()), abs=1e-12)


def test_apo_down_lowers_a_chosen_answer_that_is_ahead():
    """p (1 - p) of its reward, 1/4 at 0, less that of the margin, 9/10 * 1/10 at log 9: above 0."""
    chosen = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    rejected = torch.full((1,), -log(9), dtype=torch.float64)
    margins.anchored(Pair(chosen, rejected), "down").sum().backward()
    assert chosen.grad.tolist() == [pytest.approx(0.25 - 0.09)]


@pytest.mark.parametrize(("tau", "sign"), [(0.05, 1), (0.2, -1)])
def test_discopop_of_a_small_tau_lowers_a_margin_of_0(tau, sign):
    """(1 - log 2) / (4 tau) - 3/4: 0.784 and -0.366."""
    z = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    margins.modulated(z, tau).sum().backward()
    assert z.grad.tolist() == [pytest.approx((1 - log(2)) / (4 * tau) - 0.75)]
    assert z.grad.sign().item() == sign


def test_labels_that_are_flipped_as_often_as_said_give_the_right_loss_in_expectation():
    z = torch.tensor([1.3], dtype=torch.float64)
    found = 0.8 * margins.unbiased(z, 0.2) + 0.2 * margins.unbiased(-z, 0.2)
    assert found.tolist() == [pytest.approx(log1p(exp(-1.3)))]


# ------------------------------------------------------------------------------- rows without a reference


def test_cpo_is_dpo_and_the_likelihood_where_the_reference_is_constant():
    constant = {"chosen": [[-2.0, -2.0]], "rejected": [[-4.0]]}  # -4 for each of the answers
    s = scores(MOVED, reference=constant)
    found = pairs.cpo(s, beta=0.3, alpha=0.5).values
    assert found.tolist() == pytest.approx((pairs.dpo(s, beta=0.3).values + 0.5 * 1.0).tolist(), abs=1e-12)
    # The margin is -2 - -3 = 1.
    assert found.tolist() == [pytest.approx(log1p(exp(-0.3)) + 0.5, abs=1e-12)]


def test_cpo_takes_the_likelihood_as_a_sum_where_it_is_told_to():
    apart = pairs.cpo(scores(MOVED), likelihood="sum").values - pairs.cpo(scores(MOVED)).values
    assert apart.tolist() == [pytest.approx(1.0)]  # 2 nats in two tokens: 2 - 1


def test_simpo_wants_a_margin_per_token_of_gamma():
    # 2 * (-1 - -3) = 4, less 1.
    s = scores(MOVED)
    loss = pairs.simpo(s, beta=2.0, gamma=1.0)
    loss.values.sum().backward()
    assert loss.values.tolist() == [pytest.approx(log1p(exp(-3.0)), abs=1e-12)]
    slope = 2.0 / (1 + exp(3.0))  # beta * sigmoid(-3)
    assert s.logprobs.grad.tolist() == pytest.approx([-slope / 2, -slope / 2, slope], abs=1e-12)


def test_a_square_wants_a_margin_per_token_of_half_an_inverse_beta():
    # Per token -1 and -3: 2, less 1 / (2 * 0.2) = 2.5; and half the likelihood, 1.
    found = pairs.cpo(scores(MOVED), beta=0.2, alpha=0.5, link="squared")
    assert found.values.tolist() == [pytest.approx(0.25 + 0.5)]


# ------------------------------------------------------------------------------- rows that weigh anew


@pytest.mark.parametrize(
    ("options", "chosen", "rejected"),
    [
        # u is 4 and 1/4: log(8/5) and log(2/5); 1 - 1/4 and 1 - 4; 2 (1 - 1/2) and 2 (1 - 2); the logs.
        ({}, log(8 / 5), log(2 / 5)),
        ({"divergence": "alpha", "alpha": 1.0}, 0.75, -3.0),
        ({"divergence": "alpha"}, 1.0, -2.0),
        ({"divergence": "alpha", "alpha": 0.0}, log(4), -log(4)),
    ],
)
def test_a_divergence_has_its_own_rewards(options, chosen, rejected):
    s = scores(
        {"chosen": [[-1.0]], "rejected": [[-3.0]]},
        reference={"chosen": [[-1.0 - log(4)]], "rejected": [[-3.0 + log(4)]]},
    )
    loss = pairs.f_dpo(s, beta=0.5, **options)
    assert loss.metrics["reward_chosen"].tolist() == pytest.approx([chosen / 2])
    assert loss.metrics["reward_rejected"].tolist() == pytest.approx([rejected / 2])
    assert loss.values.tolist() == pytest.approx([log1p(exp((rejected - chosen) / 2))])


def test_an_answer_that_has_become_impossible_has_a_loss_and_a_slope_that_are_numbers():
    s = scores({"chosen": [[-1.0]], "rejected": [[-900.0]]}, reference=ONE)
    s = replace(s, logprobs=s.logprobs.detach().float().requires_grad_(), weights=s.weights.float())
    loss = pairs.f_dpo(replace(s, reference=s.reference.float()), divergence="alpha", alpha=1.0)
    loss.values.sum().backward()
    assert loss.values.isfinite().all()
    assert s.logprobs.grad.isfinite().all()


LONG = {"chosen": [[-1.0, -1.0, -1.0, -1.0], [-1.0]], "rejected": [[-3.0, -2.0], [-1.0, -3.0, -5.0]]}
BEFORE = {"chosen": [[-2.0, -2.0, -4.0, -6.0], [-1.0]], "rejected": [[-2.0, -2.0], [-2.0, -2.0, -2.0]]}


@pytest.mark.parametrize(
    ("alpha", "chosen", "rejected"),
    # Of the first 1 + 1 count, 3 + 5 in part; of the second rejected one 1 does, -1 - 3 in part.
    [(1.0, [10.0, 0.0], [-1.0, -3.0]), (0.5, [6.0, 0.0], [-1.0, -1.0]), (0.0, [2.0, 0.0], [-1.0, 1.0])],
)
def test_what_is_longer_than_the_other_counts_in_part(alpha, chosen, rejected):
    loss = pairs.ld_dpo(scores(LONG, reference=BEFORE), beta=1.0, alpha=alpha)
    assert loss.metrics["reward_chosen"].tolist() == chosen
    assert loss.metrics["reward_rejected"].tolist() == rejected
    apart = [one - other for one, other in zip(chosen, rejected, strict=True)]
    assert loss.values.tolist() == pytest.approx([log1p(exp(-margin)) for margin in apart])


def test_what_counts_in_part_is_found_however_tokens_are_laid_out():
    s = scores(LONG, reference=BEFORE)  # tokens 0 to 3, 4 to 5, 6, and 7 to 9
    mixed = torch.tensor([7, 0, 4, 6, 8, 1, 5, 9, 2, 3])
    moved = {name: getattr(s, name)[mixed] for name in ("logprobs", "weights", "path", "reference")}
    assert pairs.ld_dpo(replace(s, **moved)).values.tolist() == pytest.approx(pairs.ld_dpo(s).values.tolist())


def test_a_pair_counts_by_how_likely_the_model_would_write_it():
    # Mean of log p + H: (-1 + 0.5 - 1 + 1.5) / 2 = 0 and -3 + 1 = -2.
    s = scores(MOVED, reference=START, reduced={"collision_entropy": [0.5, 1.5, 1.0]})
    loss, plain = pairs.wpo(s, beta=0.4), pairs.dpo(s, beta=0.4)
    assert loss.metrics["weight"].tolist() == pytest.approx([exp(-2.0)])
    assert loss.values.tolist() == pytest.approx([exp(-2.0) * log1p(exp(-1.2))])
    (found,) = torch.autograd.grad(loss.values.sum(), s.logprobs)
    (of_dpo,) = torch.autograd.grad(plain.values.sum(), s.logprobs)
    torch.testing.assert_close(found, exp(-2.0) * of_dpo)  # none goes through the weight


# --------------------------------------------------------------------------------- what the rows keep

SUMMED = (
    "dpo",
    "f_dpo",
    "ld_dpo",
    "hinge",
    "robust",
    "exo",
    "sppo",
    "apo",
    "bco",
    "nca",
    "discopop",
    "aot",
    "aot unpaired",
)
AVERAGED = ("ipo", "ln_dpo", "orpo", "cpo", "simpo")


def row(name):
    made = {"bco": Bco(), "aot": Aot(), "aot unpaired": Aot(paired=False)}
    return made[name] if name in made else getattr(pairs, name)


def test_ipo_is_0_at_its_target_and_rises_beyond_it_while_dpo_falls():
    def at(margin, loss):
        s = scores({"chosen": [[margin - 1.0]], "rejected": [[-1.0]]}, reference=ONE)
        return loss(s).values.item()

    assert at(2.5, partial(pairs.ipo, target=2.5)) == 0.0
    assert at(3.5, partial(pairs.ipo, target=2.5)) == at(1.5, partial(pairs.ipo, target=2.5)) == 1.0
    assert at(3.5, pairs.dpo) < at(2.5, pairs.dpo) < at(1.5, pairs.dpo)


ONE = {"chosen": [[-1.0]], "rejected": [[-1.0]]}


def test_an_answer_twice_over_doubles_its_part_in_dpo_and_changes_nothing_in_averaged_ipo():
    twice = [{part: [ones[0] * 2] for part, ones in parts.items()} for parts in (MOVED, START)]
    once, doubled = scores(MOVED, reference=START), scores(twice[0], reference=twice[1])
    # Margins 3 and 6 by sums, 1 - -1 = 2 by means.
    assert [pairs.dpo(s, beta=1.0).metrics["margin"].item() for s in (once, doubled)] == [3.0, 6.0]
    assert [pairs.ipo(s).metrics["margin"].item() for s in (once, doubled)] == [2.0, 2.0]
    assert pairs.ipo(once).values.tolist() == pairs.ipo(doubled).values.tolist() == [64.0]  # (2 - 10)^2


@pytest.mark.parametrize(
    "name", ["dpo", "f_dpo", "ld_dpo", "ipo", "hinge", "ln_dpo", "robust", "exo", "discopop", "cpo", "simpo"]
)
def test_two_equal_answers_teach_nothing(name):
    shared = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    same = {"chosen": [[0.0, 0.0]], "rejected": [[0.0, 0.0]]}
    s = replace(scores(same, reference=same), logprobs=torch.cat([shared, shared]))
    options = {"alpha": 0.0} if name == "cpo" else {}
    row(name)(s, **options).values.sum().backward()
    assert shared.grad.abs().max() == 0


@pytest.mark.parametrize("name", SUMMED + AVERAGED)
def test_an_answer_that_is_its_end_alone_is_legal(name):
    s = scores(
        {"chosen": [[-6.5]], "rejected": [[-0.5, -1.0]]},
        reference={"chosen": [[-0.5]], "rejected": [[-1.0, -1.0]]},
    )
    loss = row(name)(s)
    loss.values.sum().backward()
    assert loss.values.isfinite().all()
    assert s.logprobs.grad[0] < 0  # the chosen answer becomes likelier


@pytest.mark.parametrize("name", SUMMED + AVERAGED)
def test_accuracy_margin_and_log_probs_are_recorded_and_what_falling_answers_are_told_by(name):
    loss = row(name)(scores(MOVED, reference=START))
    assert loss.metrics["accuracy"].tolist() == [1.0]
    assert loss.metrics["margin"].item() > 0
    assert loss.metrics["logprob_chosen"].tolist() == [-2.0]
    assert loss.metrics["logprob_rejected"].tolist() == [-3.0]
    assert ("reward_chosen" in loss.metrics) == (name in SUMMED)
    if name in SUMMED:
        assert loss.metrics["reward_chosen"].item() > 0 > loss.metrics["reward_rejected"].item()
    else:
        assert loss.metrics["nats_chosen"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (partial(pairs.ipo, target=0.0), "target is 0.0"),
        (partial(pairs.f_dpo, alpha=1.5), "alpha is 1.5"),
        (partial(pairs.ld_dpo, alpha=-0.5), "alpha is -0.5"),
        (partial(pairs.robust, flipped=0.5), "flipped is 0.5"),
        (partial(pairs.robust, flipped=-0.1), "flipped is -0.1"),
        (partial(pairs.exo, flipped=0.0), "flipped is 0.0"),
        (partial(pairs.sppo, eta=0.0), "eta is 0.0"),
        (partial(pairs.discopop, tau=2.0), "tau is 2.0"),
    ],
)
def test_options_out_of_range_are_named(made, said):
    with pytest.raises(UsageError, match=said):
        made(scores(MOVED, reference=START))


def test_lengths_and_the_way_from_the_start_are_recorded_of_every_loss_that_has_one():
    now = {"chosen": [[-1.0, -2.0]], "rejected": [[-3.0]]}
    start = {"chosen": [[-1.0, -2.0]], "rejected": [[-3.0 + log(2)]]}  # twice as likely under the start
    found = pairs.dpo(scores(now, reference=start)).metrics
    assert (found["tokens_chosen"].tolist(), found["tokens_rejected"].tolist()) == ([2.0], [1.0])
    assert found["from_start"].tolist() == pytest.approx([(0.5 - 1 + log(2)) / 3])  # of one token in three
    assert pairs.simpo(scores(now)).metrics.keys() >= {"logprob_chosen", "logprob_rejected", "tokens_chosen"}
    assert "from_start" not in pairs.simpo(scores(now)).metrics
