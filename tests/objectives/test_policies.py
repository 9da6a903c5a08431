"""RLOO, REINFORCE, GRPO and its relatives by hand. How they tune is seen beside PPO, in test_policy.py."""

from dataclasses import replace
from math import exp, log

import pytest
import torch

from turnsmith.errors import UsageError
from turnsmith.objectives.advantages import reinforced, softly
from turnsmith.objectives.groups import Cispo, Dapo, Gmpo, Grpo, Sapo, Vespo
from turnsmith.objectives.policy import Rloo
from turnsmith.objectives.samples import reinforce
from turnsmith.types import Path, Scores


def drawn(prompts, *, reference=None):
    """Scores of prompts, each given as (reward, log-probs of its tokens) of its answers. reference: log-probs
    under the start, all answers one behind the other."""
    answers = [(at, no, *one) for at, found in enumerate(prompts) for no, one in enumerate(found)]
    logprobs = torch.tensor([x for *_, said in answers for x in said], dtype=torch.float64)
    path = [at for at, (*_, said) in enumerate(answers) for _ in said]
    other = logprobs if reference is None else torch.tensor(reference, dtype=torch.float64)
    return Scores(
        logprobs=logprobs.requires_grad_(),
        weights=torch.ones(len(path), dtype=torch.float64),
        turns=torch.zeros(len(path), dtype=torch.long),
        path=torch.tensor(path, dtype=torch.long),
        paths=tuple(Path(at, "replies", no) for at, no, *_ in answers),
        examples=len(prompts),
        reference=other.detach(),
        values={"reward": torch.tensor([reward for _, _, reward, _ in answers], dtype=torch.float64)},
    )


def credited(objective, *given, old=None):
    """Scores with what credit says of them, as all of one round."""
    with torch.no_grad():
        found = objective.credit([replace(one, logprobs=one.logprobs.detach()) for one in given])
    if old is not None:
        found[0]["old"] = torch.tensor(old, dtype=torch.float64)
    return [replace(one, extras=extras) for one, extras in zip(given, found, strict=True)]


def slopes(objective, s):
    (found,) = torch.autograd.grad(objective(s).values.sum(), s.logprobs)
    return found.tolist()


TWO = [[(3.0, [-1.0, -2.0]), (1.0, [-0.5]), (5.0, [-1.0])], [(2.0, [-1.0]), (4.0, [-3.0, -1.0])]]


# ------------------------------------------------------------------------------------------------ rloo


def test_an_answer_is_held_against_the_others_to_its_prompt():
    (s,) = credited(Rloo(), drawn(TWO))
    assert s.extras["advantage"].tolist() == [0.0, 0.0, -3.0, 3.0, -2.0, 2.0, 2.0]
    assert Rloo()(s).values.tolist() == [0.0, 3.0, -3.0, 2.0, -2.0]
    assert slopes(Rloo(), s) == [0.0, 0.0, 3.0, -3.0, 2.0, -2.0, -2.0]  # -A grad log pi, whatever the length


def test_an_answer_pays_for_leaving_the_start_before_it_is_compared():
    given = drawn([[(1.0, [-1.0, -2.0]), (1.0, [-0.5])]], reference=[-2.0, -2.0, -0.5])
    (s,) = credited(Rloo(kl=0.1), given)
    assert s.extras["advantage"].tolist() == pytest.approx([-0.1, -0.1, 0.1])  # R = 1 - 0.1 * 1, and 1


def test_the_mean_of_a_round_is_plain_reinforce_and_is_taken_over_all_batches():
    first, second = (drawn([[(reward, [-1.0])]]) for reward in (1.0, 4.0))
    found = credited(Rloo(baseline="round"), first, second)
    assert [s.extras["advantage"].tolist() for s in found] == [[-1.5], [1.5]]
    bare = credited(Rloo(baseline="none"), first, second)
    assert [s.extras["advantage"].tolist() for s in bare] == [[1.0], [4.0]]


def test_bounds_are_of_the_whole_answer_and_there_are_none_by_default():
    (s,) = credited(Rloo(), drawn([[(2.0, [-1.0, -1.0]), (0.0, [-1.0])]]), old=[-1.2, -1.2, -1.0])
    assert Rloo()(s).values.tolist() == pytest.approx([-2 * exp(0.4), 2.0])
    assert Rloo(clip=0.2)(s).values.tolist() == pytest.approx([-2 * 1.2, 2.0])
    assert slopes(Rloo(clip=0.2), s) == pytest.approx([0.0, 0.0, 2.0])


def test_with_others_as_the_baseline_it_moves_as_reinforce_with_others_does():
    (s,) = credited(Rloo(kl=0.0), drawn(TWO))
    (theirs,) = torch.autograd.grad(reinforce(s, normalise="others").values.sum(), s.logprobs)
    counts = torch.tensor([3.0, 3.0, 3.0, 3.0, 2.0, 2.0, 2.0])  # reinforce is a mean over a prompt's answers
    assert slopes(Rloo(kl=0.0), s) == pytest.approx((counts * theirs).tolist())


def test_the_only_answer_to_a_prompt_teaches_nothing_beside_others():
    (s,) = credited(Rloo(), drawn([[(9.0, [-1.0])], TWO[1]]))
    assert slopes(Rloo(), s)[0] == 0.0


# ------------------------------------------------------------------------------------------------ grpo


def test_an_advantage_is_in_deviations_and_an_answer_is_a_mean_of_its_tokens():
    (s,) = credited(Grpo(kl=0.0), drawn(TWO))
    up = 2 / (8 / 3) ** 0.5  # of 3, 1, 5 the mean is 3 and the variance 8 / 3
    assert s.extras["advantage"].tolist() == pytest.approx([0.0, 0.0, -up, up, -1.0, 1.0, 1.0])
    assert slopes(Grpo(kl=0.0), s) == pytest.approx([0.0, 0.0, up, -up, 1.0, -0.5, -0.5])


def test_without_deviation_and_over_one_length_it_is_dr_grpo():
    objective = Grpo(kl=0.0, deviation=False, length=4)
    (s,) = credited(objective, drawn(TWO))
    assert slopes(objective, s) == pytest.approx([0.0, 0.0, 2 / 4, -2 / 4, 1 / 4, -1 / 4, -1 / 4])


def test_drift_from_the_start_is_in_the_loss():
    given = drawn([[(1.0, [-1.0, -1.0]), (1.0, [-2.0])]], reference=[-1.0 - log(2), -1.0, -2.0])
    (s,) = credited(Grpo(kl=0.3), given)
    # Half as likely under the start: 0.5 + log 2 - 1 of one token of two; equal rewards add nothing.
    assert Grpo(kl=0.3)(s).values.tolist() == pytest.approx([0.3 * (log(2) - 0.5) / 2, 0.0])


def test_tokens_have_bounds_of_their_own_and_the_one_above_may_be_wider():
    (s,) = credited(Grpo(), drawn([[(1.0, [-1.0, -1.0]), (0.0, [-1.0])]]), old=[-1.25, -1.5, -1.0])
    tight, wide = Grpo(kl=0.0), Grpo(kl=0.0, clip_high=0.5)
    assert tight(s).values.tolist() == pytest.approx([-1.2, 1.0])  # both tokens are above 1.2
    assert wide(s).values.tolist() == pytest.approx([-(exp(0.25) + 1.5) / 2, 1.0])
    assert tight(s).metrics["clipped"].tolist() == [1.0, 0.0]


def test_what_is_lost_may_have_a_bound_too():
    (s,) = credited(Grpo(), drawn([[(1.0, [-1.0]), (0.0, [-1.0, -1.0])]]), old=[-1.0, -1.0 - log(6), -1.5])
    free, bound = Grpo(kl=0.0), Grpo(kl=0.0, most=4.0)
    assert free(s).values.tolist() == pytest.approx([-1.0, (6 + exp(0.5)) / 2])
    assert bound(s).values.tolist() == pytest.approx([-1.0, (4 + exp(0.5)) / 2])
    assert slopes(bound, s) == pytest.approx([-1.0, 0.0, exp(0.5) / 2])


def test_a_ratio_of_the_whole_answer_is_the_geometric_mean_of_its_tokens():
    (s,) = credited(Grpo(), drawn([[(1.0, [-1.0, -1.0]), (0.0, [-1.0])]]), old=[-1.3, -0.9, -1.0])
    found = Grpo(kl=0.0, ratio="sequence")(s)
    assert found.values.tolist() == pytest.approx([-exp((0.3 - 0.1) / 2), 1.0])


# ------------------------------------------------------------------------------------- its relatives

KINDS = {"dapo": Dapo, "cispo": Cispo, "gmpo": Gmpo, "sapo": Sapo, "vespo": Vespo}
BY_ANSWER = (Grpo, Gmpo, Sapo)


def moved(objective, *, old=(-1.25, -1.5, -1.0), reference=None):
    """A better answer of two tokens, and a worse one of one token."""
    (s,) = credited(
        objective,
        drawn([[(1.0, [-1.0, -1.0]), (0.0, [-1.0])]], reference=reference),
        old=list(old),
    )
    return s


@pytest.mark.parametrize("make", [Grpo, *KINDS.values()])
def test_where_nothing_has_moved_all_go_the_same_way(make):
    objective = make(kl=0.0)
    (s,) = credited(objective, drawn(TWO))
    found = slopes(objective, s)
    up = 2 / (8 / 3) ** 0.5  # of 3, 1, 5 the mean is 3 and the variance 8 / 3
    by_token = [0.0, 0.0, up, -up, 1.0, -1.0, -1.0]
    by_answer = [0.0, 0.0, up, -up, 1.0, -0.5, -0.5]
    assert found == pytest.approx(by_answer if make in BY_ANSWER else by_token)


def test_dapo_has_the_wider_bound_above_and_a_loss_for_each_token():
    s = moved(Dapo())
    found = Dapo()(s)
    assert found.values.tolist() == pytest.approx([-1.28, -1.28, 1.0])  # e^0.25 is 1.284
    assert found.metrics["clipped"].tolist() == [1.0, 1.0, 0.0]
    assert Dapo(clip_high=0.3)(s).values[0].item() == pytest.approx(-exp(0.25))


def test_in_cispo_a_token_that_has_moved_far_still_teaches():
    s = moved(Cispo(most=1.3))
    found = Cispo(most=1.3)(s)
    assert found.values.tolist() == pytest.approx([exp(0.25), 1.3, -1.0])  # -weight * A * log pi, which is -1
    assert slopes(Cispo(most=1.3), s) == pytest.approx([-exp(0.25), -1.3, 1.0])
    assert found.metrics["clipped"].tolist() == [0.0, 1.0, 0.0]
    assert slopes(Dapo(), moved(Dapo())) == pytest.approx([0.0, 0.0, 1.0])


def test_in_gmpo_the_bounded_logs_of_an_answer_have_one_mean():
    s = moved(Gmpo(), old=(-1.2, -1.6, -0.4))  # logs of 0.2 and 0.6, which ends at 0.4; and of -0.6, at -0.4
    found = Gmpo()(s)
    assert found.values.tolist() == pytest.approx([-exp((0.2 + 0.4) / 2), exp(-0.4)])
    assert found.metrics["clipped"].tolist() == [0.5, 1.0]
    assert slopes(Gmpo(), s) == pytest.approx([-exp(0.3) / 2, 0.0, 0.0])
    back = moved(Gmpo(), old=(-0.4, -0.8, -1.6))  # against the way that each is to go, nothing is bounded
    assert Gmpo()(back).values.tolist() == pytest.approx([-exp((-0.6 - 0.2) / 2), exp(0.6)])


def test_in_sapo_what_is_gained_levels_off():
    s = moved(Sapo(up=2.0, down=4.0), old=(-1.0 - log(2), -1.0, -1.0 + log(2)))  # ratios 2, 1 and 1/2
    found = Sapo(up=2.0, down=4.0)(s)
    gate = 1 / (1 + exp(-2.0))
    assert found.values[0].item() == pytest.approx(-(2 * gate + 2 * 0.5) / 2)
    assert found.values[1].item() == pytest.approx(1 / (1 + exp(2.0)))
    # d/d log pi = r * 4 * gate * (1 - gate), of a mean over two tokens.
    assert slopes(Sapo(up=2.0, down=4.0), s)[:2] == pytest.approx([-2 * 4 * gate * (1 - gate) / 2, -0.5])


def test_in_vespo_an_answer_has_one_weight():
    s = moved(Vespo(), old=(-1.0 - log(2), -1.0 + log(4), -1.0 + log(2)))  # ratios 2 / 4 and 1/2
    better, worse = 0.5**2 * exp(3 * 0.5), 0.5**3 * exp(2 * 0.5)
    assert slopes(Vespo(), s) == pytest.approx([-better, -better, worse])
    assert Vespo()(s).values.tolist() == pytest.approx([better, better, -worse])


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_drift_from_the_start_counts_where_it_is_asked_for(make):
    reference = [-1.0 - log(2), -1.0, -1.0]
    plain, held = (make(kl=kl)(moved(make(kl=kl), reference=reference)) for kl in (0.0, 0.5))
    apart = torch.tensor([log(2) - 0.5, 0.0, 0.0], dtype=torch.float64)
    if make in BY_ANSWER:
        apart = torch.tensor([apart[0] / 2, 0.0], dtype=torch.float64)
    torch.testing.assert_close(held.values - plain.values, 0.5 * apart)
    torch.testing.assert_close(held.metrics["from_start"], apart)


@pytest.mark.parametrize("make", [Rloo, Grpo, *KINDS.values()])
def test_one_answer_to_each_prompt_cannot_be_compared(make):
    with pytest.raises(UsageError, match="no prompt has two answers to compare"):
        make().credit([drawn([[(1.0, [-1.0])], [(2.0, [-1.0])]])])


@pytest.mark.parametrize("make", [Grpo, *KINDS.values()])
def test_advantages_may_be_left_as_they_are(make):
    (s,) = credited(make(deviation=False), drawn(TWO))
    assert s.extras["advantage"].tolist() == [0.0, 0.0, -2.0, 2.0, -1.0, 1.0, 1.0]


def test_no_gradient_goes_through_a_weight_and_all_of_it_through_a_gate():
    ratio = torch.tensor([2.0], requires_grad=True)
    logprobs = ratio.detach().log().requires_grad_()
    reinforced(logprobs, ratio, torch.ones(1), most=5.0).backward()
    assert ratio.grad is None
    assert logprobs.grad.tolist() == [2.0]
    softly(ratio, -torch.ones(1), up=1.0, down=1.0).backward()
    assert ratio.grad.item() == pytest.approx(-4 * exp(-1.0) / (1 + exp(-1.0)) ** 2)
