"""Installing a trainable: what learns, what is frozen, in which dtype, drawn from which seed."""

import pytest
import torch

from turnsmith.errors import ModelError
from turnsmith.testing import model
from turnsmith.trainables.install import install, learning


def norms(model, draw):
    return {name: True for name, _ in model.named_parameters() if "norm" in name}


class Noise:
    """Attaches a vector of new weights."""

    def __init__(self, *, size: int = 3) -> None:
        self.size = size

    def attach(self, model):
        model.noise = torch.nn.Parameter(torch.randn(self.size))
        return model

    def select(self, model, draw):
        return {"noise": True}


def test_only_what_is_selected_learns():
    installed = install(model(), norms, {}, seed=0)
    assert len(learning(installed)) == 2 * 2 + 1  # two in each of two blocks, and the last one
    assert all("norm" in name for name in learning(installed))
    assert not installed.lm_head.weight.requires_grad


def test_what_learns_is_fp32_and_what_is_frozen_keeps_its_dtype():
    installed = install(model().to(torch.bfloat16), norms, {}, seed=0)
    assert {p.dtype for p in learning(installed).values()} == {torch.float32}
    assert {p.dtype for p in installed.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_weights_that_are_tied_stay_tied():
    def embedding(model, draw):
        return {"model.embed_tokens.weight": True}

    installed = install(model().to(torch.bfloat16), embedding, {}, seed=0)
    assert installed.lm_head.weight is installed.model.embed_tokens.weight
    assert installed.lm_head.weight.dtype == torch.float32


def test_new_weights_come_from_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (install(model(), Noise, {"size": 4}, seed=seed).noise for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_the_draw_of_a_selection_comes_from_the_seed():
    drawn = []

    def one(model, draw):
        drawn.append(draw.rng.random())
        return norms(model, draw)

    for seed in (1, 1, 2):
        install(model(), one, {}, seed=seed)
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_parameter_that_the_model_lacks_is_named():
    with pytest.raises(ModelError, match=r"selects 'model\.gate', which is no parameter"):
        install(model(), lambda model, draw: {"model.gate": True}, {}, seed=0)


def test_nothing_to_learn_is_an_error():
    with pytest.raises(ModelError, match="nothing would learn"):
        install(model(), lambda model, draw: {"model.norm.weight": False}, {}, seed=0)
