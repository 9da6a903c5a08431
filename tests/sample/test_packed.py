"""Products by packed weights are the usual products, and the layers are left as they were."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from turnsmith.sample import float16, packed
from turnsmith.sample.packed import Packed, fits, unrounded

fbgemm = pytest.mark.skipif(not float16.here(), reason="needs FBGEMM")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 16, bias=False))


@pytest.fixture
def products(monkeypatch):
    """Rows of each product that is not by packed weights."""
    rows = []
    usual = F.linear
    monkeypatch.setattr(F, "linear", lambda x, *rest: rows.append(x.shape[:-1].numel()) or usual(x, *rest))
    return rows


@pytest.mark.parametrize("shape", [(2, 1), (8, 1), (3, 7), (1024, 1)])
@torch.inference_mode()
def test_products_are_those_of_the_weights(model, products, shape):
    states = torch.randn(*shape, 24)
    one, two = model
    expected = (states @ one.weight.T + one.bias) @ two.weight.T
    with Packed(model).used():
        torch.testing.assert_close(model(states), expected, atol=1e-5, rtol=1e-5)
    assert products == []


@pytest.mark.parametrize("rows", [1, 1025])
@torch.inference_mode()
def test_where_they_are_not_faster_the_usual_product_is_used(model, products, rows):
    with Packed(model).used():
        model(torch.randn(rows, 24))
    assert products == [rows, rows]


@torch.no_grad()
def test_only_changed_weights_are_packed_anew(model):
    states, made = torch.randn(4, 24), Packed(model)
    with made.used():
        before = model(states)
    one, two = (made.made[layer] for layer in model)
    model[1].weight.mul_(2)
    with made.used():
        torch.testing.assert_close(model(states), 2 * before)
    assert made.made[model[0]] is one
    assert made.made[model[1]] is not two
    model[0].weight = nn.Parameter(torch.zeros(40, 24))
    model[0].bias.zero_()
    with made.used():
        assert not model(states).any()


def test_the_layers_are_left_as_they_were(model):
    def fail():
        with Packed(model).used():
            assert "forward" in model[0].__dict__
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert all("forward" not in layer.__dict__ for layer in model)
    assert model(torch.randn(4, 24)).requires_grad


def test_what_cannot_be_packed_stays_as_it_is(model, monkeypatch):
    for strange in (model.double(), nn.Sequential(nn.ReLU())):
        assert not fits(Packed(strange).layers, None)
        with Packed(strange).used():
            assert all("forward" not in layer.__dict__ for layer in strange)
    monkeypatch.setattr(packed, "MOST", 4 * (24 * 40 + 40 * 16))
    assert fits(list(model.float()), None)
    monkeypatch.setattr(packed, "MOST", 4 * (24 * 40 + 40 * 16) - 1)
    assert not fits(list(model), None)


@pytest.mark.skipif(not packed.bf16(), reason="needs a CPU with bf16 products (AVX512)")
@torch.inference_mode()
def test_products_in_bf16_are_those_of_bf16_weights(model):
    states = torch.randn(8, 24)
    with Packed(model, torch.bfloat16).used():
        found = model(states)
    assert found.dtype == torch.bfloat16
    expected = model.bfloat16()(states.bfloat16())
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


# ------------------------------------------------------------------------------------- weights in fp16


def doubled(model, states):
    """What the model gives in fp64."""
    one, two = (layer.weight.double() for layer in model)
    return ((states.double() @ one.T + model[0].bias.double()) @ two.T).float()


@fbgemm
@pytest.mark.parametrize("rows", [1, 12, 1025])
@torch.inference_mode()
def test_weights_that_fp16_holds_are_read_in_it(model, products, rows):
    for layer in model:
        layer.weight.copy_(layer.weight.bfloat16())
    states = torch.randn(rows, 24)
    with Packed(model).used():
        torch.testing.assert_close(model(states), doubled(model, states), atol=1e-5, rtol=1e-5)
    assert products == []


@fbgemm
@pytest.mark.parametrize("rows", [1, 12, 1025])
@torch.inference_mode()
def test_other_weights_are_rounded_where_that_is_asked_for(model, rows):
    """The same ones for any number of rows, and the layers' own stay."""
    states, before = torch.randn(rows, 24), [layer.weight.clone() for layer in model]
    with Packed(model, weights="float16").used():
        found = model(states)
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(model, before, strict=True))
    usual = doubled(model, states)
    for layer in model:
        layer.weight.copy_(layer.weight.half())  # at least 2**-14, so that nothing is lost but bits
    torch.testing.assert_close(found, doubled(model, states), atol=1e-5, rtol=1e-5)
    assert (found - usual).abs().max() > 2e-5


@fbgemm
@torch.no_grad()
def test_weights_that_were_tuned_are_no_more_read_in_fp16(model):
    for layer in model:
        layer.weight.copy_(layer.weight.bfloat16())
    states, made = torch.randn(12, 24), Packed(model)
    with made.used():
        model(states)
    model[1].weight.add_(1e-3 * torch.randn(16, 40))
    with made.used():
        torch.testing.assert_close(model(states), doubled(model, states), atol=1e-5, rtol=1e-5)


def test_who_cannot_be_rounded_is_told_why(model, monkeypatch):
    monkeypatch.setattr(float16, "here", lambda: True)
    assert unrounded(model, None) is None
    assert "is not computed in float32" in unrounded(model, torch.bfloat16)
    assert "has weights in Conv1d, not in nn.Linear" in unrounded(nn.Sequential(nn.Conv1d(2, 2, 1)), None)
    assert "is not on one" in unrounded(nn.Sequential(nn.Linear(2, 2, device="meta")), None)
    monkeypatch.setattr(packed, "MOST", 1)
    assert "too large for a second copy" in unrounded(model, None)
    monkeypatch.setattr(float16, "here", lambda: False)
    assert "FBGEMM on x86" in unrounded(model, None)
    assert "is not computed in float32" in unrounded(model.double(), None)
