"""The objectives over pairs, by hand."""

from dataclasses import replace
from math import exp, log

import pytest
import torch

from turnsmith.objectives.pairs import dpo
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
