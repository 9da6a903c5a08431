"""DPO whose beta goes by how far apart two answers are, worked out by hand."""

from itertools import pairwise
from math import exp, inf, log
from statistics import fmean

import pytest
import torch

from turnsmith.errors import UsageError
from turnsmith.objectives.pairs import dpo
from turnsmith.objectives.scaled import BatchScaledDpo, drawn_above, scaled_dpo
from turnsmith.testing import examples, scores

# Log-ratios: chosen (-1 + 1.5) + (-1 + 1) = 0.5, rejected -2 + 1 = -1: h = 1.5. Chosen has the mean -1.
PARTS = {"chosen": [[-1.0, -1.0]], "rejected": [[-2.0]]}
REFERENCE = {"chosen": [[-1.5, -1.0]], "rejected": [[-1.0]]}


def pairs(*margins, parts=PARTS, reference=REFERENCE):
    count = len(margins)
    given = {name: ones * count for name, ones in parts.items()}
    against = {name: ones * count for name, ones in reference.items()}
    return scores(given, reference=against, values={"margin": list(margins)})


def softplus(z):
    return log(1 + exp(z))


def test_the_loss_by_hand():
    # b = 0.1 * (1 + 0.5 * (1 - exp(-0.5 * 2))) = 0.1 * 1.31606...
    b = 0.1 * (1 + 0.5 * (1 - exp(-1)))
    loss = scaled_dpo(pairs(2.0), beta=0.1, weight=0.5, rate=0.5, preference=2.0, likelihood=0.25)
    assert loss.values.item() == pytest.approx(2 * softplus(-b * 1.5) + 0.25 * 1.0, abs=1e-12)
    assert loss.metrics["beta"].item() == pytest.approx(b, abs=1e-12)


def test_beta_goes_from_its_least_at_0_to_its_most_rising_ever_less():
    margins = [0.0, 1.0, 2.0, 3.0, inf]
    found = scaled_dpo(pairs(*margins), beta=0.2, weight=0.5).metrics["beta"].tolist()
    assert found[0] == 0.2
    assert found[-1] == pytest.approx(0.3, abs=1e-12)  # 0.2 * (1 + 0.5)
    rises = [after - before for before, after in pairwise(found)]
    assert rises[0] > rises[1] > rises[2] > 0


def test_a_reward_against_the_label_gives_beta_itself():
    found = scaled_dpo(pairs(-0.1, -5.0, -inf), beta=0.1, weight=0.5)
    assert found.metrics["beta"].tolist() == [0.1, 0.1, 0.1]


def test_without_weight_it_is_dpo_and_the_likelihood_bit_for_bit():
    given = pairs(0.0, 0.3, 4.0)
    plain = dpo(given, beta=0.1).values - 0.25 * given.means("chosen")
    assert torch.equal(scaled_dpo(given, beta=0.1, weight=0.0).values, plain)


def test_where_policy_and_reference_agree_the_preference_part_is_log_2_for_every_beta():
    given = pairs(0.0, 2.0, 9.0, reference=PARTS)
    assert scaled_dpo(given, likelihood=0.0).values.tolist() == pytest.approx([log(2)] * 3, abs=1e-12)


def test_no_gradient_goes_through_the_margin():
    given = pairs(1.0)
    margin = given.values["margin"].requires_grad_()
    scaled_dpo(given).values.sum().backward()
    assert margin.grad is None
    assert given.logprobs.grad is not None


@pytest.mark.parametrize("options", [{"weight": -0.1}, {"rate": -1.0}])
def test_numbers_below_0_are_refused(options):
    with pytest.raises(UsageError, match="neither may be below 0"):
        scaled_dpo(pairs(1.0), **options)


# ------------------------------------------------------------------------------ one beta for a step


class Seen:
    """A look at a step of so many pairs, whose log-ratios are given."""

    def __init__(self, *ahead, step=0):
        self.window = examples(len(ahead), parts=("chosen", "rejected"))
        self.given, self.step, self.total, self.lr = ahead, step, 10, 1e-3

    def each(self, window, read):
        now = {"chosen": [[one] for one in self.given], "rejected": [[0.0] for _ in self.given]}
        start = {part: [[0.0] for _ in self.given] for part in now}
        return read(scores(now, reference=start))


def test_a_step_of_one_pair_has_no_deviation_and_beta_itself():
    assert BatchScaledDpo(weight=0.5).before_step(Seen(3.0)) == {"scale": [1.0]}
    assert BatchScaledDpo(weight=0.5).before_step(Seen(3.0, 3.0)) == {"scale": [1.0, 1.0]}


def test_of_five_pairs_four_are_drawn_and_all_have_their_beta():
    ahead = (0.0, 1.0, 2.0, 3.0, 14.0)  # the mean is 4, without one of them 5, 4.75, 4.5, 4.25 or 1.5
    scales = BatchScaledDpo(weight=0.5).before_step(Seen(*ahead))["scale"]
    assert len(set(scales)) == 1
    possible = [1 + 0.5 * (fmean(ahead[:at] + ahead[at + 1 :]) - 4) for at in range(5)]
    assert min(abs(scales[0] - one) for one in possible) < 1e-12


def test_what_is_far_from_the_mean_is_drawn_less_often():
    # Normal densities at -0.71 (twice), -0.35 and 1.77 deviations: the last is drawn with 4 of 5 seldom.
    ahead = [0.0, 0.0, 0.0, 0.0, 10.0]
    without = sum(drawn_above(ahead, "step", at) < 0 for at in range(400))
    # Densities: e^(-0.1) four times (0.905) and e^(-1.6) (0.202). The four near ones come first with
    # 3.62/3.82 * 2.71/2.92 * 1.81/2.01 * 0.905/1.107 = 0.65; drawn evenly it would be 1/5.
    assert without / 400 > 0.5


def test_a_beta_is_never_below_its_least_and_data_that_no_step_has_seen_have_beta_itself():
    given = scores(PARTS, reference=REFERENCE, values={"scale": [-3.0]})
    assert BatchScaledDpo()(given).metrics["beta"].tolist() == [1e-3]
    assert BatchScaledDpo(beta=0.1)(pairs(5.0)).metrics["beta"].tolist() == [0.1]
