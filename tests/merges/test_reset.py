"""Half-reset: half of a tuned model's matrices as they were in its base."""

from random import Random

import pytest
import torch

from turnsmith.errors import UsageError
from turnsmith.merges.reset import HalfReset
from turnsmith.testing import model

BASE, TUNED = (
    dict(model(seed=0, layers=4).named_parameters()),
    dict(model(seed=1, layers=4).named_parameters()),
)


def reset(seed=0, **options):
    rule = HalfReset(**options)
    rule.plan({name: p.ndim for name, p in BASE.items()}, Random(seed))
    return {name: rule(name, BASE[name], [TUNED[name]]) for name in BASE}


def test_all_reset_is_the_base_bit_for_bit():
    assert all(torch.equal(made, BASE[name]) for name, made in reset(reset="all").items())


def test_none_reset_is_the_tuned_model_bit_for_bit():
    assert all(torch.equal(made, TUNED[name]) for name, made in reset(reset="none").items())


def test_half_reset_takes_each_matrix_whole_and_half_of_them():
    made = reset()
    matrices = [name for name in made if "proj" in name]
    back = [torch.equal(made[name], BASE[name]) for name in matrices]
    assert all(
        torch.equal(made[name], TUNED[name]) for name, was in zip(matrices, back, strict=True) if not was
    )
    assert sum(back) == 28 - (4 * 2 + 2 * 2 + 2 * 1)  # of 4 blocks: 2 of 4, and 2 or 1 of 3, stay tuned


def test_what_is_outside_the_blocks_stays_tuned():
    made = reset()
    assert torch.equal(made["model.embed_tokens.weight"], TUNED["model.embed_tokens.weight"])


def test_it_takes_one_model():
    with pytest.raises(UsageError, match="takes one tuned model, not 2"):
        HalfReset(reset="none")("x", torch.zeros(1), [torch.zeros(1)] * 2)
