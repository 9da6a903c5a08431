"""Classification by label words, and weights from a look ahead, by hand."""

from dataclasses import replace
from math import exp, log
from types import SimpleNamespace

import pytest
import torch

from turnsmith.errors import DataError, UsageError
from turnsmith.objectives.labels import Reweighted, log_shares, normalised, verbalised
from turnsmith.testing import OBJECTIVE, scores
from turnsmith.train.method import Method
from turnsmith.types import Path, Rendered


def asked(*examples, target):
    """Scores of examples, of each the log-probs of the tokens of each class's words."""
    parts = {
        str(number): [list(one) for one in ones] for number, ones in enumerate(zip(*examples, strict=True))
    }
    return labels(scores(parts), target)


def labels(made, target):
    """The same with all parts of an example as conversations of its part `labels`."""
    paths = tuple(Path(path.example, "labels", int(path.part)) for path in made.paths)
    return replace(made, paths=paths, values={"target": torch.tensor(target, dtype=torch.float64)})


def test_one_class_for_certain_is_the_cross_entropy_over_the_words():
    s = asked([[-1.0], [-2.0]], [[-3.0], [-1.0]], target=[1.0, 0.0, 1.0, 0.0])
    loss = verbalised(s)
    assert loss.values.tolist() == pytest.approx([log(1 + exp(-1.0)), log(1 + exp(2.0))], abs=1e-12)
    assert loss.metrics["accuracy"].tolist() == [1.0, 0.0]


def test_check_4_hard_labels_reduce_the_divergence_to_the_cross_entropy_with_one_hot():
    nats = torch.tensor([-1.0, -2.5, -0.5], dtype=torch.float64)
    s = asked([[value] for value in nats.tolist()], target=[0.0, 1.0, 0.0])
    expected = torch.nn.functional.cross_entropy(nats[None], torch.tensor([1]))
    assert verbalised(s).values.item() == pytest.approx(expected.item(), abs=1e-12)


def test_check_4_where_teacher_and_student_are_the_same_loss_and_gradient_are_0():
    share = exp(-1.0) / (exp(-1.0) + exp(-2.0))
    s = asked([[-1.0], [-2.0]], target=[share, 1 - share])
    loss = verbalised(s).values.sum()
    (slope,) = torch.autograd.grad(loss, s.logprobs)
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert slope.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)


def test_a_soft_target_gives_the_divergence_and_its_gradient_is_p_less_q():
    s = asked([[0.0], [log(3.0)]], target=[0.5, 0.5])  # p = 1/4, 3/4
    loss = verbalised(s).values
    assert loss.item() == pytest.approx(0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.75), abs=1e-12)
    (slope,) = torch.autograd.grad(loss.sum(), s.logprobs)
    assert slope.tolist() == pytest.approx([-0.25, 0.25], abs=1e-12)


@pytest.mark.parametrize(("words", "apart"), [("sum", -1.0), ("mean", 0.5)])
def test_check_7_words_of_several_tokens_count_by_the_sum_or_the_mean_of_their_log_probs(words, apart):
    s = asked([[-1.0, -2.0], [-2.0]], target=[1.0, 0.0])  # sums -3 and -2, means -1.5 and -2
    assert verbalised(s, words=words).values.item() == pytest.approx(log(1 + exp(-apart)), abs=1e-12)


def test_shares_of_far_away_scores_are_finite_and_sum_to_one():
    owners = torch.tensor([0, 0, 1, 1, 1])
    found = log_shares(torch.tensor([-1e4, -2e4, 0.0, 800.0, 800.0]), owners, 2)
    assert found.exp().tolist() == pytest.approx([1.0, 0.0, 0.0, 0.5, 0.5])


def test_examples_without_a_target_are_named():
    s = replace(asked([[-1.0], [-2.0]], target=[1.0, 0.0]), values={})
    with pytest.raises(DataError, match="need a value `target`, made by the stage `labelled`"):
        verbalised(s)


# ------------------------------------------------------------------------------------- weights


def test_check_2_weights_are_none_below_0_and_sum_to_1():
    found = normalised([3.0, -2.0, 1.0, 0.0])
    assert found == pytest.approx([0.75, 0.0, 0.25, 0.0], abs=1e-6)
    assert sum(found) == pytest.approx(1.0, abs=1e-6)


def test_check_2_where_no_gradient_agrees_all_weights_are_0_and_so_is_the_loss():
    assert normalised([-3.0, -1.0]) == [0.0, 0.0]
    s = asked([[-1.0], [-2.0]], [[-3.0], [-1.0]], target=[1.0, 0.0, 1.0, 0.0])
    s = replace(s, values={**s.values, "weight": torch.zeros(2)})
    loss = Reweighted()(s).values
    (slope,) = torch.autograd.grad(loss.sum(), s.logprobs)
    assert loss.tolist() == [0.0, 0.0]
    assert slope.tolist() == [0.0] * 4


def test_weights_multiply_the_losses():
    s = asked([[-1.0], [-2.0]], [[-3.0], [-1.0]], target=[1.0, 0.0, 1.0, 0.0])
    plain = verbalised(s).values
    weighed = replace(s, values={**s.values, "weight": torch.tensor([2.0, 0.5])})
    assert Reweighted()(weighed).values.tolist() == pytest.approx((plain * torch.tensor([2.0, 0.5])).tolist())
    assert Reweighted()(s).values.tolist() == plain.tolist()  # of what no step has weighed


def look(gradients, *, step, total=10, lr=0.5):
    """What the objective sees of a window with these gradients; that of the labelled data comes first."""
    window = [Rendered(str(number), {}) for number in range(len(gradients) - 1)]
    of = {"labelled": gradients[0]} | {
        one.id: slope for one, slope in zip(window, gradients[1:], strict=True)
    }
    return SimpleNamespace(
        window=window,
        step=step,
        total=total,
        lr=lr,
        beside=lambda name, count: [Rendered(name, {})],
        gradient=lambda examples: [torch.tensor(of[examples[0].id])],
    )


def test_in_the_last_steps_examples_count_by_how_their_gradients_agree_with_that_of_true_labels():
    # Inner products with (1, 2): 3, -2 and 1; three examples, so that the mean of their weights is 1.
    seen = look([[1.0, 2.0], [1.0, 1.0], [0.0, -1.0], [-1.0, 1.0]], step=6)
    assert Reweighted().before_step(seen) == {"weight": pytest.approx([2.25, 0.0, 0.75], abs=1e-5)}


def test_before_the_last_two_fifths_all_count_alike():
    seen = look([[1.0, 2.0], [1.0, 1.0], [0.0, -1.0]], step=5)
    assert Reweighted().before_step(seen) == {"weight": [1.0, 1.0]}
    assert Reweighted(after=1.0).before_step(look([[1.0], [1.0]], step=9)) == {"weight": [1.0]}


@pytest.mark.parametrize("wrong", [{"after": 1.5}, {"batch": 0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match="0 <= after <= 1 and batch >= 1"):
        Reweighted(**wrong)


# ------------------------------------------------------------------------------------- the contract


def over_two_parts(objective):
    """The objective over examples of which two parts are the answers, as the contract makes them."""

    def of(s):
        made = replace(s, paths=tuple(path._replace(part=["no", "yes"].index(path.part)) for path in s.paths))
        return objective(labels(made, [0.3 if path.part == "no" else 0.7 for path in s.paths]))

    return of


@pytest.mark.parametrize("check", OBJECTIVE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("objective", [verbalised, Reweighted(), Reweighted(words="mean")])
def test_contract(check, objective):
    check(Method(over_two_parts(objective), "example"), ("no", "yes"))
