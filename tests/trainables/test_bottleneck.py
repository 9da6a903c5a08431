"""LiST's adapters: what they compute, what they fold into, and what they go on with."""

import pytest
import torch
from torch import nn

from turnsmith.errors import ModelError, UsageError
from turnsmith.models import load
from turnsmith.models.own import of
from turnsmith.testing import TRAINABLE, model, tokenizer
from turnsmith.trainables.bottleneck import Bottleneck, BottleneckAdapters, bottlenecks
from turnsmith.trainables.install import Learner, install, learning
from turnsmith.trainables.lora import Lora
from turnsmith.trainables.mixture import LoraMoe

IDS = torch.arange(3, 40)[None]
SMALL = {"size": 4}


def logits(whole):
    with torch.no_grad():
        return whole.eval()(input_ids=IDS, use_cache=False).logits


def moved(learner, size=0.1):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in learning(learner.model).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    return learner


def biased(whole):
    """The model with its bias terms, if it has any, away from the zeros that they start at."""
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(torch.linspace(-1, 1, len(parameter)))
    return whole


def test_check_1_with_u_of_zero_the_model_is_the_base_to_the_bit():
    whole = install(model(), BottleneckAdapters, SMALL, seed=0)
    for part in bottlenecks(whole).values():
        nn.init.zeros_(part.up.weight)
    assert torch.equal(logits(whole), logits(model()))


def test_check_1_at_the_start_outputs_are_others_than_those_of_the_base():
    whole = install(model(), BottleneckAdapters, {"size": 16}, seed=0)
    weights = torch.cat([p.flatten() for p in learning(whole).values()])
    assert len(weights) == 2 * 2 * 2 * 16 * 32  # two blocks, two layers of 32 outputs, D and U
    assert weights.std().item() == pytest.approx(0.02, rel=0.05)
    apart = (logits(whole) - logits(model())).abs().max()
    assert 1e-4 < apart < 1


@pytest.mark.parametrize(("bend", "middle"), [(False, [-1.0, 4.0]), (True, [0.0, 4.0])])
def test_the_layer_by_hand(bend, middle):
    layer = nn.Linear(1, 2)
    part = Bottleneck(layer, size=2, bend=bend)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [2.0]]))
        layer.bias.copy_(torch.tensor([0.0, 1.0]))
        part.down.weight.copy_(torch.tensor([[1.0, -0.6], [-1.0, 1.2]]))  # of h = (2, 5): -1 and 4
        part.up.weight.copy_(torch.tensor([[1.0, 0.5], [0.0, 1.0]]))
    found = part(torch.tensor([[2.0]]))
    assert found.tolist() == [pytest.approx([2 + middle[0] + 0.5 * middle[1], 5 + middle[1]])]


@pytest.mark.parametrize("bias", [False, True])
def test_what_is_folded_gives_the_same_logits_and_is_a_plain_model(bias):
    base = biased(model(bias=bias))
    learner = moved(Learner(base, BottleneckAdapters, SMALL | {"keep": "folded"}, seed=0))
    expected = logits(learner.model)
    whole = learner.finished()
    assert not bottlenecks(whole)
    assert of(whole) is None
    assert dict(whole.named_parameters()).keys() == dict(model(bias=bias).named_parameters()).keys()
    assert (expected - logits(biased(model(bias=bias)))).abs().max() > 0.1
    # Sums of 32 and 64 products in another order, in fp32, through two blocks.
    torch.testing.assert_close(logits(whole), expected, rtol=0, atol=1e-4)


def test_adapters_folded_into_bf16_lose_no_digits_of_their_own():
    learner = moved(
        Learner(model().to(torch.bfloat16), BottleneckAdapters, SMALL | {"keep": "folded"}, seed=0)
    )
    name = "model.layers.0.mlp.down_proj"
    part = bottlenecks(learner.model)[name]
    eye = torch.eye(32)
    expected = (eye + part.up.weight @ part.down.weight) @ part.layer.weight.float()
    found = learner.finished().get_submodule(name).weight
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{"keep": "folded"}, {"shape": "relu"}, {"last": 2}])
@pytest.mark.parametrize("check", TRAINABLE, ids=lambda check: check.__name__)
def test_contract_of_its_variants(check, options):
    check(BottleneckAdapters, SMALL | options)


def test_only_the_uppermost_blocks_get_adapters_where_that_is_asked_for():
    whole = install(model(layers=3), BottleneckAdapters, SMALL | {"last": 1}, seed=0)
    assert list(bottlenecks(whole)) == ["model.layers.2.self_attn.o_proj", "model.layers.2.mlp.down_proj"]


def test_a_saved_model_goes_on_with_its_adapters(tmp_path):
    load.save(model(), tokenizer(), tmp_path / "base", base=None)
    learner = moved(Learner(load.load(str(tmp_path / "base"))[0], BottleneckAdapters, SMALL, seed=0))
    load.save(learner.finished(), tokenizer(), tmp_path / "tuned", base=str(tmp_path / "base"))
    again, _ = load.load(str(tmp_path / "tuned"), trainable=True)
    on = Learner(again, BottleneckAdapters, SMALL, seed=5)
    assert torch.equal(logits(on.model), logits(learner.model))
    assert len(learning(on.model)) == 2 * 2 * 2
    for options in ({"size": 5}, {"size": 4, "shape": "relu"}, {"size": 4, "last": 1}):
        with pytest.raises(ModelError, match="the 4 adapters to go on with have size 4 and shape linear"):
            Learner(again, BottleneckAdapters, options, seed=0)
    with pytest.raises(ModelError, match="carries the parts of bottleneck"):
        Learner(again, LoraMoe, {}, seed=0)


def test_check_6_a_student_starts_from_weights_that_its_seed_alone_says():
    one, same, other = (
        torch.cat(
            [p.flatten() for p in learning(install(model(), BottleneckAdapters, SMALL, seed=seed)).values()]
        )
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert (one == other).float().mean() < 0.01


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"size": 0}, UsageError, "size is 0"),
        ({"last": 0}, UsageError, "last 0"),
        ({"last": 3}, ModelError, "last is 3, and this model has 2 blocks"),
        ({"shape": "relu", "keep": "folded"}, UsageError, "only linear adapters can be folded"),
        ({"targets": ("nothing",)}, ModelError, "no layer of this model is called nothing"),
        ({"targets": ("mlp",)}, ModelError, r"model.layers.0.mlp is a LlamaMLP, no linear layer"),
    ],
)
def test_what_cannot_be_is_refused(options, error, said):
    with pytest.raises(error, match=said):
        install(model(), BottleneckAdapters, SMALL | options, seed=0)


def test_a_model_with_an_adapter_of_peft_is_refused():
    with pytest.raises(ModelError, match="merge it first"):
        install(install(model(), Lora, {"rank": 2}, seed=0), BottleneckAdapters, SMALL, seed=0)
