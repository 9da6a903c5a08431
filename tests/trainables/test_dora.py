"""DoRA: what it starts as, what a layer computes, and that plain peft reads what it leaves."""

import pytest
import torch
from peft import PeftModel

from turnsmith.errors import ModelError
from turnsmith.testing import model
from turnsmith.trainables.dora import Dora
from turnsmith.trainables.install import install, learning
from turnsmith.trainables.lora import Lora

IDS = torch.arange(3, 40)[None]


def logits(whole):
    with torch.no_grad():
        return whole.eval()(input_ids=IDS, use_cache=False).logits


def moved(**options):
    """The tiny model with an adapter all of whose parts have moved."""
    whole = install(model(), Dora, options, seed=0)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in learning(whole).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return whole


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_before_the_first_step_the_model_is_as_it_was_in_either_precision(dtype):
    base = model().to(dtype)
    before = logits(base)
    assert (logits(install(base, Dora, {"rank": 4}, seed=0)) - before).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_lengths_are_the_norms_of_the_weights_that_lead_to_each_output(dtype):
    whole = install(model().to(dtype), Dora, {"rank": 4}, seed=0)
    layer = whole.base_model.model.model.layers[1].mlp.down_proj
    lengths = layer.lora_magnitude_vector["default"].weight
    by_hand = (layer.base_layer.weight.double() ** 2).sum(1) ** 0.5  # a row leads to an output
    torch.testing.assert_close(lengths.double(), by_hand, rtol=1e-6, atol=0)
    assert lengths.requires_grad


def test_two_matrices_and_the_lengths_learn_on_every_linear_layer_but_the_head():
    whole = install(model(), Dora, {"rank": 4}, seed=0)
    assert len(learning(whole)) == 2 * 7 * 3  # two blocks, seven layers, A, B and m
    assert all("lora_" in name for name in learning(whole))


def test_the_layer_has_the_lengths_times_the_direction_of_weights_and_product():
    whole = moved(rank=4, alpha=8.0, targets=("down_proj",))
    layer = whole.base_model.model.model.layers[0].mlp.down_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    both = layer.base_layer.weight + 8 / 4 * b @ a
    weight = layer.lora_magnitude_vector["default"].weight[:, None] * both / both.norm(dim=1, keepdim=True)
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), x @ weight.T, rtol=0, atol=1e-5)


def test_plain_peft_reads_the_adapter_and_folds_it_into_the_same_logits(tmp_path):
    whole = moved(rank=4)
    whole.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(model(), tmp_path)
    assert torch.equal(logits(again), logits(whole))
    assert (logits(again.merge_and_unload()) - logits(whole)).abs().max() < 1e-4
    assert (logits(whole) - logits(model())).abs().max() > 0.01


@pytest.mark.parametrize(("there", "asked", "said"), [
    (Dora, Lora, "is one of dora, asked for is lora: train with dora, or merge"),
    (Lora, Dora, "is one of lora, asked for is dora: train with lora, or merge"),
])  # fmt: skip
def test_an_adapter_of_the_other_kind_is_not_gone_on_with(there, asked, said):
    with pytest.raises(ModelError, match=said):
        install(install(model(), there, {"rank": 4}, seed=0), asked, {"rank": 4}, seed=0)


def test_an_adapter_of_its_own_kind_is_gone_on_with_as_it_is():
    whole = moved(rank=4)
    before = logits(whole)
    assert torch.equal(logits(install(whole, Dora, {"rank": 4}, seed=1)), before)
