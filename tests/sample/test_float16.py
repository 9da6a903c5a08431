"""Weights in fp16: what is rounded, what is not, and that sums are in fp32."""

import pytest
import torch
from torch.nn import functional as F

from turnsmith.sample import float16
from turnsmith.sample.float16 import Float16, exact

pytestmark = pytest.mark.skipif(not float16.here(), reason="needs FBGEMM")


@torch.inference_mode()
def kept(*rows):
    """The numbers that a weight of these rows is kept as."""
    weight = torch.tensor(rows)
    return Float16(weight, None)(torch.eye(weight.shape[1])).T


def test_numbers_are_rounded_to_eleven_bits():
    """3.0 is multiplied by 2**13 to be below 2**15: 0.1 becomes 819.2, where numbers in fp16 are 0.5 apart.
    Halves go to the even neighbour: 1 + 1/2048 to 1, and 1 + 3/2048 to 1 + 4/2048."""
    found = kept([0.1, 3.0], [0.0, 0.0], [1 + 1 / 2048, -1 - 3 / 2048])
    assert found.tolist() == [[819 / 8192, 3.0], [0.0, 0.0], [1.0, -1 - 4 / 2048]]


def test_numbers_of_few_bits_are_kept_however_far_apart():
    """131 has 8 bits, as all numbers in bf16, and is kept down to 2**-31 of the largest. What lies below that
    is off by 2**-39 at most: 131 / 2**45 is a little more than 2**-38, the least that there is."""
    numbers = [131 * 2.0**power for power in (-7, -20, -38)]
    assert kept(numbers).tolist() == [numbers]
    for times in (2.0**100, 2.0**-40):
        assert kept([one * times for one in numbers]).tolist() == [[one * times for one in numbers]]
    assert kept([1.0, 131 * 2.0**-45]).tolist() == [[1.0, 2.0**-38]]
    assert not kept([0.0, 0.0]).any()


def test_what_loses_nothing_is_known_from_the_bits():
    assert exact(torch.tensor([[1 + 1 / 1024, -3.0, 0.0, 1e-20]]).bfloat16().float())
    assert exact(torch.tensor([[1 + 1 / 1024]]))
    assert not exact(torch.tensor([[1.0, 1 + 1 / 2048]]))
    assert not exact(torch.tensor([[1.0, torch.inf]]))
    assert not exact(torch.tensor([[1.0, torch.nan]]))
    assert exact(torch.randn(50, 20).half().float())
    assert not exact(torch.randn(50, 20))


@pytest.mark.parametrize("shape", [(1,), (1, 1), (2, 3), (12,), (40, 33)])
@torch.inference_mode()
def test_products_are_those_of_fp32(shape):
    """Sums of 300 terms, of which each is in fp32: bf16 in states or results would be off by 0.1."""
    torch.manual_seed(0)
    weight, bias, states = torch.randn(70, 300).bfloat16().float(), torch.randn(70), torch.randn(*shape, 300)
    expected = F.linear(states.double(), weight.double(), bias.double()).float()
    torch.testing.assert_close(Float16(weight, bias)(states), expected, atol=1e-4, rtol=1e-5)
