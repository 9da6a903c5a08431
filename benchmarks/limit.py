"""What a step needs at least, and what the machine can do at most, for `step.py`, in a process of its own.

Prints the model operations of one optimiser step and the best rate of a matrix product.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM
from workload import Job, counts

from turnsmith.models import cost
from turnsmith.registry import Registry
from turnsmith.train.place import device
from turnsmith.trainables.install import install

ROWS = 2048  # of the left matrix: tokens of a usual micro-batch
REPEATS = 7


def main(job: Job) -> dict[str, float]:
    """Operations of a step and the best matrix rate, per second."""
    return {"flops": operations(job), "rate": best_rate(job)}


def operations(job: Job) -> float:
    """Model operations of one optimiser step: forward and backward, see `cost.training_flops`.

    Per token, for each weight of the body: 2 forward, 2 for the gradient of what goes in, and 2 for that of
    the weight where it learns. The head's the same, at trained tokens only. For each token and each that it
    sees, 12 for each number of the queries in each layer. Adapters count beside the weights they rest on.
    Left out are padding, recomputation, norms, the optimiser, and the forward pass of a live reference. The
    prompt of a pair counts once. So both sides are held to the same number.
    """
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(job.model))
        model = install(model, Registry().function("trainable", job.trainable), {}, seed=0)
    found = counts(job.examples())
    return cost.training_flops(model, found["tokens"], found["supervised"], found["attended"])


def best_rate(job: Job) -> float:
    """Operations per second of the fastest product of tokens with a weight of this model, in the job's dtype:
    the best of several of each shape."""
    config: Any = AutoConfig.from_pretrained(job.model)
    hidden, inner, dtype = config.hidden_size, config.intermediate_size, getattr(torch, job.dtype)
    shapes = {(hidden, hidden), (hidden, inner), (inner, hidden), (hidden, config.vocab_size)}
    best = 0.0
    for inputs, outputs in sorted(shapes):
        states = torch.randn(ROWS, inputs, device=device()).to(dtype)
        weight = torch.randn(outputs, inputs, device=device()).to(dtype)
        taken = min(seconds(states, weight) for _ in range(REPEATS))
        best = max(best, 2 * ROWS * inputs * outputs / taken)
    return best


def seconds(states: torch.Tensor, weight: torch.Tensor) -> float:
    """Of one product; reading a value waits for the device."""
    float(states[0, 0])
    started = time.perf_counter()
    float(F.linear(states, weight)[0, 0])
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(main(Job.read(sys.argv))))
