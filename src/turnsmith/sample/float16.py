"""Products by weights that are kept in fp16, on states in fp32: half of the bytes to read.

A number with at most 11 significant bits is the same in fp16, once a power of two has brought the largest of
its matrix below 2**15. Such are all weights that come from a file in bf16 or fp16 and have not been tuned
since: with them these products are the usual ones, up to the order of sums. What is less than 2**-28 of the
largest weight is off by 2**-39 of it at most. The products are FBGEMM's, which sum in fp32.

Measured on an AMD EPYC with AVX2, a core of it, a weight of 3072 by 576: 1.7 times as fast as the usual
product with 1 row, 2.4 with 8, 1.5 with 32, and 1.3 to 1.8 times as fast as the packed one of `packed.py`;
a head of 49,152 rows 2.4 times with 1. Torch's product by int8 weights takes 1.1 to 1.7 times as long, and
gives bf16.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Weights = Literal["exact", "float16"]
DROPPED = 0x1FFF  # the last 13 bits of a number in fp32: those that one in fp16 does not have
LARGEST = 15  # power of two that no weight reaches: the largest number in fp16 is just below 2**16
FURTHEST = 64  # power of two that weights are multiplied with at most, so that states do not vanish


class Float16:
    """Gives for states (..., K) in fp32 their product (..., N) by a weight (N, K), which is rounded to fp16,
    and adds a bias (N,)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        largest = float(weight.abs().max()) if weight.numel() else 0.0
        power = min(LARGEST - math.frexp(largest)[1], FURTHEST)
        self.scale = 2.0**-power
        self.packed = torch.ops.quantized.linear_prepack_fp16(weight * 2.0**power, bias)

    def __call__(self, states: Tensor) -> Tensor:
        made: Tensor = torch.ops.quantized.linear_dynamic_fp16(states * self.scale, self.packed)
        return made


def exact(weight: Tensor) -> bool:
    """Whether a weight in fp32 is the same in fp16, as far as is said above.

    >>> exact(torch.tensor([[0.5, 3.0]])), exact(torch.tensor([[0.1, 3.0]]))
    (True, False)
    """
    return bool(weight.isfinite().all()) and not bool((weight.view(torch.int32) & DROPPED).any())


def here() -> bool:
    """Whether this machine's torch has the products."""
    return (
        "fbgemm" in torch.backends.quantized.supported_engines
        and torch.backends.quantized.engine in ("fbgemm", "x86")
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
    )
