"""LoRA: where it goes, how it starts, how it goes on, and that plain peft reads what it leaves."""

import pytest
import torch
from peft import PeftModel

from turnsmith.errors import ModelError
from turnsmith.testing import model
from turnsmith.trainables.install import install, learning
from turnsmith.trainables.lora import Lora

IDS = torch.arange(3, 40)[None]


def logits(whole):
    with torch.no_grad():
        return whole.eval()(input_ids=IDS, use_cache=False).logits


def adapted(seed=0, **options):
    """The tiny model with an adapter that has been moved away from zero."""
    whole = install(model(), Lora, options, seed=seed)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in learning(whole).items():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return whole


def test_the_product_starts_at_zero_on_every_linear_layer_but_the_head():
    whole = install(model(), Lora, {"rank": 4}, seed=0)
    assert torch.equal(logits(whole), logits(model()))
    assert len(learning(whole)) == 2 * 7 * 2  # two blocks, seven layers, A and B
    assert all("lora_" in name for name in learning(whole))


@pytest.mark.parametrize(("root", "scale"), [(False, 8 / 4), (True, 8 / 2)])
def test_the_layer_computes_w_x_plus_the_product_times_alpha_by_rank_or_its_root(root, scale):
    whole = adapted(rank=4, alpha=8.0, targets=("down_proj",), scale_by_root=root)
    layer = whole.base_model.model.model.layers[0].mlp.down_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    expected = x @ layer.base_layer.weight.T + scale * x @ a.T @ b.T
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)
    assert {name.split(".")[-4] for name in learning(whole)} == {"down_proj"}


def test_the_same_seed_gives_the_same_first_weights():
    first, same, other = (learning(install(model(), Lora, {"rank": 4}, seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_model_with_an_adapter_goes_on_with_it():
    whole = adapted(rank=4)
    before = logits(whole)
    again = install(whole, Lora, {"rank": 4}, seed=1)
    assert again is whole
    assert torch.equal(logits(again), before)
    assert len(learning(again)) == 2 * 7 * 2


@pytest.mark.parametrize(("options", "said"), [
    ({"rank": 8}, "has rank 4, asked for is 8: set rank to 4, or merge the adapter first"),
    ({"rank": 4, "alpha": 8.0}, "has alpha 32.0, asked for is 8.0"),
    ({"rank": 4, "dropout": 0.1}, "has dropout 0.0, asked for is 0.1"),
    ({"rank": 4, "scale_by_root": True}, "has scale_by_root False, asked for is True"),
    ({"rank": 4, "targets": ("q_proj",)}, "has targets .*, asked for is .'q_proj'."),
])  # fmt: skip
def test_going_on_with_other_settings_than_those_asked_for_is_an_error(options, said):
    with pytest.raises(ModelError, match=said):
        install(adapted(rank=4), Lora, options, seed=0)


def test_layers_that_the_model_has_not_are_an_error():
    with pytest.raises(ModelError, match=r"lora cannot be attached: .*c_attn"):
        install(model(), Lora, {"targets": ("c_attn",)}, seed=0)


def test_plain_peft_reads_the_adapter_and_gives_the_same_logits(tmp_path):
    whole = adapted(rank=4)
    whole.save_pretrained(tmp_path)
    assert (logits(whole) - logits(model())).abs().max() > 0.01
    assert torch.equal(logits(PeftModel.from_pretrained(model(), tmp_path)), logits(whole))
