"""Which parameters each selection takes."""

from random import Random

import pytest
import torch

from turnsmith.errors import ModelError
from turnsmith.testing import model
from turnsmith.trainables.install import Draw
from turnsmith.trainables.select import biases, full, layers, named

DRAW = Draw(Random(0))


def test_full_takes_every_parameter():
    whole = model()
    assert set(full(whole, DRAW)) == {name for name, _ in whole.named_parameters()}


def test_biases_takes_bias_terms_alone():
    found = biases(model(bias=True), DRAW)
    assert len(found) == 2 * 7  # two blocks of q, k, v, o, gate, up, down
    assert all(name.endswith(".bias") for name in found)


def test_biases_of_a_model_without_any_is_an_error():
    with pytest.raises(ModelError, match="this model has no bias terms: choose another trainable"):
        biases(model(), DRAW)


def test_layers_takes_the_last_blocks_whole_and_nothing_else():
    whole = model(layers=4)
    found = layers(whole, DRAW, last=2)
    blocks = {name for name, _ in whole.named_parameters() if name.split(".")[2] in ("2", "3")}
    assert set(found) == blocks
    assert len(found) == 2 * 9  # q, k, v, o, gate, up, down and two norms


def test_layers_counts_blocks_and_not_the_many_experts_within_each():
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(8))

    whole = torch.nn.Module()
    whole.blocks = torch.nn.ModuleList(Block() for _ in range(3))
    assert {name.split(".")[1] for name in layers(whole, DRAW, last=1)} == {"2"}
    assert len(layers(whole, DRAW, last=1)) == 8 * 2


@pytest.mark.parametrize("last", [0, 3, -1])
def test_layers_that_the_model_has_not_are_an_error(last):
    with pytest.raises(ModelError, match=f"last={last}, but the model has 2 blocks"):
        layers(model(), DRAW, last=last)


def test_named_takes_the_modules_of_these_names_wherever_they_are():
    found = named(model(layers=2, bias=True), DRAW, modules=("q_proj", "mlp.up_proj"))
    assert {name.split("layers.")[1] for name in found} == {
        f"{block}.{module}.{kind}"
        for block in (0, 1)
        for module in ("self_attn.q_proj", "mlp.up_proj")
        for kind in ("weight", "bias")
    }


def test_named_takes_no_part_of_a_name_and_no_module_that_there_is_not():
    with pytest.raises(ModelError, match="no parameter of a module 'proj'"):
        named(model(), DRAW, modules=("q_proj", "proj"))
