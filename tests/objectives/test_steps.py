"""Losses that hold a pair against its step, by hand."""

from dataclasses import replace
from math import exp, log1p
from types import SimpleNamespace

import pytest
import torch

from turnsmith.data.batch import pack, pad
from turnsmith.errors import UsageError
from turnsmith.objectives.pairs import dpo
from turnsmith.objectives.steps import Aot, Bco
from turnsmith.testing import examples, scores
from turnsmith.train.method import Method

NOW = {"chosen": [[-1.0], [-2.0], [-4.0]], "rejected": [[-3.0], [-2.5], [-1.0]]}  # margins 2, 0.5, -3
START = {"chosen": [[-2.0], [-2.0], [-2.0]], "rejected": [[-3.0], [-2.5], [-6.0]]}  # margins 1, 0.5, 4


def softplus(x):
    return log1p(exp(-x))


def stepped(objective, s):
    """The scores with what the objective says of them as a step."""
    found = objective.before_step(SimpleNamespace(window=range(s.examples), each=lambda _, read: read(s)))
    return replace(s, values={name: torch.tensor(ones, dtype=torch.float64) for name, ones in found.items()})


def first():
    return scores(
        {name: ones[:1] for name, ones in NOW.items()},
        reference={name: ones[:1] for name, ones in START.items()},
    )


def step(objective):
    return stepped(objective, scores(NOW, reference=START))


# ------------------------------------------------------------------------------------------------- bco


def test_the_shift_of_bco_is_the_mean_reward_of_all_answers_of_the_step():
    # Log-ratios: chosen 1, 0, -2; rejected 0, 0, 5: their mean is 2 / 3.
    found = Bco(beta=0.3)(step(Bco(beta=0.3)))
    shift = 0.2
    assert found.metrics["shift"].tolist() == pytest.approx([shift] * 3)
    assert found.values.tolist() == pytest.approx(
        [softplus(0.3 * up - shift) + softplus(shift - 0.3 * down) for up, down in ((1, 0), (0, 0), (-2, 5))]
    )


def test_a_shift_that_is_given_needs_no_look_and_none_is_0_for_what_has_no_step():
    unseen = SimpleNamespace(window=range(3))  # asking it for anything else would fail
    assert Bco(shift=0.5).before_step(unseen) == {}
    s = scores(NOW, reference=START)
    assert Bco(beta=0.3, shift=0.5)(s).values[1].item() == pytest.approx(softplus(-0.5) + softplus(0.5))
    assert Bco(beta=0.3)(s).values[1].item() == pytest.approx(2 * softplus(0))


def test_no_gradient_goes_through_the_shift():
    s = step(Bco(beta=0.3))
    (slopes,) = torch.autograd.grad(Bco(beta=0.3)(s).values.sum(), s.logprobs)
    second = next(at for at, path in enumerate(s.paths) if (path.example, path.part) == (1, "chosen"))
    second = slopes[s.path == second].item()  # a reward of 0, less 0.2: -beta * sigmoid(0.2)
    assert second == pytest.approx(-0.3 / (1 + exp(-0.2)))


# ------------------------------------------------------------------------------------------------- aot


def test_the_lowest_margin_is_held_against_the_lowest_of_the_start_and_so_on_up():
    # Margins now -3 < 0.5 < 2, at the start 0.5 < 1 < 4.
    s = step(Aot(beta=1.0))
    assert s.values["against_chosen"].tolist() == [4.0, 1.0, 0.5]
    assert Aot(beta=1.0)(s).values.tolist() == pytest.approx(
        [softplus(2 - 4), softplus(0.5 - 1), softplus(-3 - 0.5)]
    )


def test_unpaired_answers_are_held_against_those_of_their_rank():
    # Log-ratios: chosen 1, 0, -2; rejected 0, 0, 5. By rank: -2 and 0, 0 and 0, 1 and 5.
    objective = Aot(beta=1.0, paired=False)
    s = step(objective)
    assert s.values["against_chosen"].tolist() == [5.0, 0.0, 0.0]
    assert s.values["against_rejected"].tolist() == [-2.0, 0.0, 1.0]  # of equals the earlier is lower
    values = objective(s).values
    assert values.tolist() == pytest.approx([softplus(1 - 5), softplus(0), softplus(-2)])
    (slopes,) = torch.autograd.grad(values.sum(), s.logprobs)
    ends = [1 / (1 + exp(one)) for one in (-4, 0, -2)]  # of the margins, by the chosen answer
    chosen = [slopes[at].item() for at, path in enumerate(s.path) if s.paths[path].part == "chosen"]
    rejected = [slopes[at].item() for at, path in enumerate(s.path) if s.paths[path].part == "rejected"]
    assert chosen == pytest.approx([-one for one in ends])
    assert rejected == pytest.approx([ends[2], ends[1], ends[0]])  # the one of rank 3 stands third


def test_a_step_of_one_pair_and_what_has_no_step_are_dpo():
    s = scores(NOW, reference=START)
    expected = dpo(s, beta=0.7).values
    for paired in (True, False):
        torch.testing.assert_close(Aot(beta=0.7, paired=paired)(s).values, expected)
        one = first()
        alone = stepped(Aot(beta=0.7, paired=paired), one)
        torch.testing.assert_close(Aot(beta=0.7, paired=paired)(alone).values, dpo(one, beta=0.7).values)


def test_flipped_labels_are_counted_the_other_way_round():
    s = step(Aot(beta=1.0, flipped=0.2))
    found = Aot(beta=1.0, flipped=0.2)(s).values[0].item()
    assert found == pytest.approx(0.8 * softplus(-2) + 0.2 * softplus(2))
    with pytest.raises(UsageError, match=r"aot: flipped is 0\.5"):
        Aot(flipped=0.5)


@pytest.mark.parametrize("objective", [Aot(), Aot(paired=False), Bco()], ids=["aot", "unpaired", "bco"])
def test_what_a_step_says_is_the_same_however_it_is_cut(objective, looking):
    window = examples(5, parts=("chosen", "rejected"))

    def valued(row, layout):
        ahead = looking(Method(objective, "example", reference=True), row=row, layout=layout)
        found, flops = ahead.valued(window, 0, 1, 1e-3)
        assert flops > 0
        return [x for one in found for name, x in sorted(one.values.items()) if name != "label"]

    whole = valued(10**6, pack)
    assert len(set(whole)) > (1 if isinstance(objective, Aot) else 0)
    assert valued(1, pack) == pytest.approx(whole, abs=1e-4)
    assert valued(1, pad) == pytest.approx(whole, abs=1e-4)
