"""Distillation, by hand."""

from dataclasses import replace
from functools import partial
from math import log

import pytest
import torch

from turnsmith.errors import UsageError
from turnsmith.models.reduce import Other, reduce
from turnsmith.objectives.distil import distil, jsd, reverse_distil
from turnsmith.testing import scores

BOTH = pytest.mark.parametrize(("objective", "name"), [(distil, "kl"), (reverse_distil, "reverse_kl")])


@BOTH
def test_the_loss_is_the_divergence_at_each_token_times_the_temperature_squared(objective, name):
    apart = {f"{name}:teacher": [0.5, 0.25, 0.0]}
    s = scores({"text": [[-1.0, -2.0], [-3.0]]}, reduced=apart, temperature=3.0)
    loss = objective(s)
    assert loss.values.tolist() == [4.5, 2.25, 0.0]  # 3^2 of each
    assert loss.metrics["kl"].tolist() == [0.5, 0.25, 0.0]


def slope(objective, name, temperature):
    """Of the loss with respect to logits of 0 and 0, beside a teacher whose softened ones are 3/4 and 1/4."""
    logits = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    teacher = temperature * torch.tensor([[log(3.0), 0.0]], dtype=torch.float64)

    def project(states):
        return states / temperature

    others = {"teacher": Other(teacher, project)}
    found = reduce(logits, torch.tensor([0]), project, (f"{name}:teacher",), rows=1, others=others)
    s = replace(scores({"text": [[-1.0]]}, temperature=temperature), reduced=found)
    values = objective(s).values
    return torch.autograd.grad(values.sum(), logits)[0][0].tolist()


def test_between_the_two_lies_the_divergence_from_their_mixture():
    s = scores({"text": [[-1.0], [-2.0]]}, reduced={"jsd/0.25:teacher": [0.5, 0.25]}, temperature=2.0)
    loss = jsd(s, mix=0.25)
    assert loss.values.tolist() == [2.0, 1.0]
    assert loss.metrics["kl"].tolist() == [0.5, 0.25]


@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_a_mixture_is_of_both(mix):
    with pytest.raises(UsageError, match="distil and reverse_distil"):
        jsd(scores({"text": [[-1.0]]}), mix=mix)


@pytest.mark.parametrize(
    ("mix", "objective", "name"), [(1e-6, distil, "kl"), (1 - 1e-6, reverse_distil, "reverse_kl")]
)
def test_at_its_ends_the_mixture_moves_as_the_two_do(mix, objective, name):
    share = min(mix, 1 - mix)
    found = slope(partial(jsd, mix=mix), f"jsd/{mix}", 1.0)
    assert [one / share for one in found] == pytest.approx(slope(objective, name, 1.0), abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_gradient_of_a_logit_is_the_temperature_times_the_excess_of_its_probability(temperature):
    """T^2 times (q - p) / T: eq. 2 of the paper has no T^2 yet; q is 1/2 and 1/2, p is 3/4 and 1/4."""
    found = slope(distil, "kl", temperature)
    assert found == pytest.approx([-temperature / 4, temperature / 4], abs=1e-12)


def test_the_gradient_of_the_reverse_weighs_by_what_the_student_believes():
    """q_i (ln(q_i / p_i) - KL): 1/2 (ln(2/3) - K) and 1/2 (ln 2 - K), with K = (ln(2/3) + ln 2) / 2."""
    half = (log(2) - log(2 / 3)) / 4
    assert slope(reverse_distil, "reverse_kl", 1.0) == pytest.approx([-half, half], abs=1e-12)
