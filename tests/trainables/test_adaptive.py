"""GreenTrainer: importance, the choice within a budget beside all choices there are, and the edges."""

from itertools import product
from random import Random

import numpy as np
import pytest
import torch

from turnsmith.errors import ModelError, UsageError
from turnsmith.models.backward import costs
from turnsmith.models.cost import Work
from turnsmith.testing import model
from turnsmith.trainables.adaptive import Green, best, importance
from turnsmith.trainables.install import Draw, Moved

WORK = Work(tokens=64, supervised=4, attended=64 * 65 // 2)


def cost(mask, gradient, passing):
    """Of a choice: its gradients, and the way to the lowest of them."""
    lowest = max((k for k, one in enumerate(mask) if one), default=-1)
    return float(sum(passing[: lowest + 1]) + gradient[np.array(mask, bool)].sum())


def brute(gains, gradient, passing, budget):
    """The most that any choice within the budget gains."""
    masks = [mask for mask in product((0, 1), repeat=len(gains)) if cost(mask, gradient, passing) <= budget]
    return max(float(gains[np.array(mask, bool)].sum()) for mask in masks)


def moving(sign=1.0, tried=None):
    """A trial in which the loss falls (1) or rises (-1) with every tensor, by a random amount."""
    rng = np.random.default_rng(0)

    def trial(mask):
        if tried is not None:
            tried.update(mask)
        sizes = {name: float(rng.uniform(0.1, 1)) for name in mask}
        return {name: Moved(torch.tensor([-sign * size]), torch.ones(1)) for name, size in sizes.items()}

    return trial


def choose(whole, trial=None, work=WORK, **options):
    return Green(**options).select(whole, Draw(Random(0), 0, trial or moving(), work))


def chosen(mask):
    return [name for name, learns in mask.items() if learns]


# -------------------------------------------------------------------------------- the choice itself


@pytest.mark.parametrize("buckets", [24, 1000])
def test_the_example_of_the_card(buckets):
    """T = 24 and a share of 0.6: 14 may be spent. Tensors 1 and 2 gain 3 + 10 and cost 1 + 7, and 0 + 2 + 1
    to come to tensor 2: 11."""
    passing, gradient = np.array([0.0, 2, 1, 4, 0]), np.array([5.0, 1, 7, 3, 1])
    gains = np.array([1.0, 3, 10, 5, 3])
    mask = best(gains, gradient, passing, share=0.6, buckets=buckets)
    assert mask.tolist() == [False, True, True, False, False]
    assert cost(mask, gradient, passing) == 11
    assert gains[mask].sum() == brute(gains, gradient, passing, 14) == 13


def test_no_choice_within_the_budget_gains_more():
    """300 random cases of up to 9 tensors with whole costs, so that a bucket is 1 and nothing is rounded."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        count = int(rng.integers(1, 10))
        gradient, passing = (rng.integers(0, 8, count).astype(float) for _ in range(2))
        gradient[0] += 1  # something has to cost something
        gains, share = rng.normal(size=count).round(2), float(rng.uniform(0.05, 1))
        total = gradient.sum() + passing.sum()
        mask = best(gains, gradient, passing, share=share, buckets=int(total))
        assert cost(mask, gradient, passing) <= int(share * total)
        assert gains[mask].sum() == pytest.approx(brute(gains, gradient, passing, int(share * total)))


def test_a_lower_tensor_is_not_paid_for_by_the_way_alone():
    """Tensor 1 gains most but lies behind 6 of a budget of 5."""
    mask = best(np.array([1.0, 9.0]), np.array([2.0, 1.0]), np.array([1.0, 6.0]), share=0.5, buckets=10)
    assert mask.tolist() == [True, False]


def test_hundreds_of_tensors_take_seconds_at_most():
    rng = np.random.default_rng(0)
    gradient, passing, gains = rng.uniform(size=(3, 400))
    mask = best(gains, gradient, passing, share=0.4, buckets=10_000)
    assert 0 < cost(mask, gradient, passing) <= 0.4 * (gradient + passing).sum() * (1 + 2 * 400 / 10_000)


# ------------------------------------------------------------------------------------- importance


def test_importance_is_minus_the_product_of_change_and_gradient_over_the_largest():
    """-(1 * -2 + 2 * -1) = 4, -(3 * 1) = -3 and 0 for what was not tried: over 4."""
    moved = [
        Moved(torch.tensor([1.0, 2.0]), torch.tensor([-2.0, -1.0])),
        Moved(torch.tensor([[3.0]]), torch.tensor([[1.0]])),
        None,
    ]
    assert importance(moved).tolist() == [1.0, -0.75, 0.0]


def test_a_tensor_that_does_not_move_has_no_importance():
    moved = [Moved(torch.zeros(3), torch.ones(3)), Moved(-torch.ones(3), torch.ones(3))]
    assert importance(moved).tolist() == [0.0, 1.0]
    assert importance(moved[:1]).tolist() == [0.0]


def test_a_loss_times_four_has_the_same_importances_where_steps_are_along_the_gradient():
    def steps(factor):
        slopes = [torch.tensor([0.5, -1.0]) * factor, torch.tensor([0.25]) * factor]
        return [Moved(-0.5 * slope, slope) for slope in slopes]

    assert importance(steps(4.0)).tolist() == importance(steps(1.0)).tolist() == [1.0, 0.05]


# ------------------------------------------------------------------------------------ of a model


def test_before_the_loop_runs_everything_may_learn():
    whole = model()
    mask = Green().select(whole, Draw(Random(0)))
    assert mask == {name: True for name, _ in whole.named_parameters()}


def test_all_of_the_budget_takes_every_tensor_that_promises_something():
    found = costs(model(), WORK)
    mask = choose(model(), share=1.0)
    assert set(chosen(mask)) == set(found.names)
    assert found.backward(chosen(mask)) == found.total


def test_what_raises_the_loss_does_not_learn_whatever_the_budget():
    raising = "model.layers.0.mlp.up_proj.weight"

    def trial(mask):
        found = dict(moving()(mask))
        found[raising] = Moved(torch.ones(1), torch.ones(1))
        return found

    mask = choose(model(), trial, share=1.0)
    assert [name for name, learns in mask.items() if not learns] == [raising]


@pytest.mark.parametrize("share", [0.45, 0.5, 0.7, 0.9])
def test_a_step_keeps_to_its_share_of_full_tuning(share):
    """To what rounding costs down to buckets can hide: two of them for each tensor."""
    whole = model(layers=6)
    found = costs(whole, WORK)
    mask = choose(whole, share=share)
    full = found.forward + found.total
    hidden = 2 * len(found.names) * found.total / 10_000
    spent = found.forward + found.backward(chosen(mask))
    assert spent <= share * full + hidden
    assert spent >= 0.9 * share * full  # what is left over is not the point


def test_only_what_could_fit_is_tried():
    tried = {}
    whole = model(layers=6)
    choose(whole, moving(tried=tried), share=0.5)
    found = costs(whole, WORK)
    ratio = found.forward / found.total
    fits = {n for n in found.names if found.backward([n]) <= (0.5 * (1 + ratio) - ratio) * found.total}
    assert set(tried) == fits
    assert 0 < len(fits) < len(found.names)
    assert all(tried.values())


def test_a_budget_that_the_forward_pass_takes_leaves_a_twentieth_of_the_backward_pass_and_says_so(capsys):
    """Few tokens are trained, so that the way through the head is short."""
    whole, work = model(layers=6), Work(64, 1, 2080)
    found = costs(whole, work)
    mask = choose(whole, work=work, share=0.2)
    spent = found.backward(chosen(mask))
    assert 0 < spent <= (0.05 + 2 * len(found.names) / 10_000) * found.total
    whole_share = (found.forward + 0.05 * found.total) / (found.forward + found.total)
    expected = f"takes 0.2 of full tuning or more: a step takes {whole_share:.2f}"
    assert expected in capsys.readouterr().err


def test_where_the_way_through_the_head_is_too_long_the_least_share_is_named():
    """Every token is trained: the head alone is more than a twentieth of the backward pass."""
    with pytest.raises(
        ModelError, match=r"no tensor fits into the budget: give it a share of at least 0\.\d+"
    ):
        choose(model(), work=Work(64, 64, 2080), share=0.1)
    least = 0.01
    while True:  # the share that is named is the first that does
        try:
            assert choose(model(), work=Work(64, 64, 2080), share=least)
            break
        except ModelError as error:
            named = float(str(error).rpartition(" ")[2])
            least = round(least + 0.01, 2)
    assert least == named


def test_where_nothing_promises_anything_the_best_single_tensor_is_kept_and_said(capsys):
    gains = {}

    def rising(mask):
        found = moving(-1)(mask)
        gains.update({name: -float(one.change * one.gradient) for name, one in found.items()})
        return found

    mask = choose(model(layers=6), rising, share=0.5)
    assert all(gain < 0 for gain in gains.values())
    assert chosen(mask) == [max(gains, key=gains.get)]
    assert f"no tensor promises a lower loss: {chosen(mask)[0]} learns alone" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_share_that_is_none_is_an_error(share):
    with pytest.raises(UsageError, match="share is a share of full tuning"):
        Green(share=share)


@pytest.mark.parametrize("options", [{"every": 0}, {"buckets": 0}])
def test_every_and_buckets_count_from_one(options):
    with pytest.raises(UsageError, match="both must be at least 1"):
        Green(**options)
