"""The head in slabs gives the log-probs and gradients of full logits, whatever the loss turns out to be."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from turnsmith.models import head
from turnsmith.models.head import logprobs

VOCABULARY = 50


def case(bias: bool = False, dtype: torch.dtype = torch.float64) -> tuple[Tensor, nn.Linear, Tensor, Tensor]:
    """States (D, H), a head, targets (D,) and what the loss hands back (D,)."""
    torch.manual_seed(0)
    linear = nn.Linear(8, VOCABULARY, bias=bias).to(dtype)
    states = torch.randn(11, 8, dtype=dtype, requires_grad=True)
    return states, linear, torch.randint(0, VOCABULARY, (11,)), torch.randn(11, dtype=dtype)


def plainly(
    states: Tensor, linear: nn.Linear, targets: Tensor, cap: float | None, temperature: float
) -> Tensor:
    logits = linear(states)
    bounded = logits if cap is None else cap * torch.tanh(logits / cap)
    return -F.cross_entropy(bounded / temperature, targets, reduction="none")


def slopes(found: Tensor, upstream: Tensor, *of: Tensor, retain: bool = False) -> list[Tensor]:
    return list(torch.autograd.grad(found, of, upstream, retain_graph=retain))


@pytest.fixture(params=[1, 4, 1000])
def slab(request, monkeypatch):
    monkeypatch.setattr(head, "SLAB", 4 * VOCABULARY * request.param)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("known", ["as expected", "twice of it", "otherwise", "not at all"])
def test_values_and_gradients_are_those_of_full_logits(slab, bias, cap, temperature, known):
    states, linear, targets, upstream = case(bias)
    expected = plainly(states, linear, targets, cap, temperature)
    hints = {"as expected": upstream, "twice of it": upstream / 2, "otherwise": torch.ones(11).double()}
    hint = hints.get(known)
    found = logprobs(states, targets, linear, cap=cap, temperature=temperature, expected=hint)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    learning = [states, *linear.parameters()]
    wanted = slopes(expected, upstream, *learning)
    torch.testing.assert_close(slopes(found, upstream, *learning), wanted, rtol=1e-10, atol=1e-12)


def test_a_second_backward_gives_the_same_again():
    states, linear, targets, upstream = case()
    found = logprobs(states, targets, linear, expected=upstream / 3)
    first = slopes(found, upstream, linear.weight, retain=True)
    torch.testing.assert_close(slopes(found, upstream, linear.weight), first)


PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.mm.out, torch.ops.aten.addmm_.default)


class Products(TorchDispatchMode):
    """Counts matrix products and the largest number of elements that any tensor had."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.count += function in PRODUCTS
        if isinstance(out, Tensor):
            self.largest = max(self.largest, out.numel())
        return out


@pytest.mark.parametrize(("known", "products"), [(True, 3), (False, 4)])
def test_logits_are_made_once_where_the_loss_is_known_and_twice_where_not(known, products):
    states, linear, targets, upstream = case()
    with Products() as seen:
        found = logprobs(states, targets, linear, expected=upstream if known else None)
        found.backward(upstream)
    assert seen.count == products  # logits, (logits again,) for the state, for the weight


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_no_tensor_is_as_large_as_all_logits(monkeypatch, learns, known):
    monkeypatch.setattr(head, "SLAB", 4 * VOCABULARY * 8)
    states, linear, targets, upstream = case()
    linear.requires_grad_(learns)
    with Products() as seen:
        logprobs(states, targets, linear, expected=upstream if known else None).backward(upstream)
    assert seen.largest == 8 * VOCABULARY < 11 * VOCABULARY


@pytest.mark.parametrize("learns", [False, True])
def test_without_a_trained_token_there_are_no_log_probs_and_gradients_of_zero(learns):
    states, linear, targets, _ = case()
    linear.requires_grad_(learns)
    none = states[:0]
    found = logprobs(none, targets[:0], linear, expected=torch.zeros(0).double())
    assert found.shape == (0,)
    found.sum().backward()
    assert not states.grad.any()


def test_under_autocast_products_are_bf16_and_log_probs_fp32():
    states, linear, targets, upstream = case(dtype=torch.float32)
    exact = plainly(states, linear, targets, None, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        found = logprobs(states, targets, linear, expected=upstream)
    assert found.dtype == torch.float32
    assert 1e-5 < (found - exact).abs().max() < 5e-2
    (weight,) = slopes(found, upstream, linear.weight)
    (wanted,) = slopes(exact, upstream, linear.weight)
    assert weight.dtype == torch.float32
    assert (weight - wanted).norm() / wanted.norm() < 1e-2
