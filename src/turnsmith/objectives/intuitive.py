"""Fine-tuning on what others said that reads, and weighs, what the model itself would have said."""

from __future__ import annotations

import torch
from torch import Tensor

from turnsmith.registry import objective
from turnsmith.types import Loss, Run

TINY = 1e-9  # nats: a sequence whose losses sum to less is learnt, and has nothing to weigh by


@objective("ift", per="sequence", forward=True, source="arXiv:2405.11870 sec. 4, and its code")
def ift(run: Run, *, mix: float = 0.2, discount: float = 0.95, detach_weights: bool = False) -> Loss:
    """Negative log-likelihood behind inputs into which the model's own guesses are mixed, each token weighted
    by the losses of itself and of those that follow it.

    A first pass without gradients guesses every trained token greedily from the data before it. In the second
    the embedding of a trained token is (1 - mix) times its own and `mix` times that of the guess; other
    inputs stay, and no gradient goes into the table through them. c_t, the sum of the losses to come, each
    times `discount` to the power of its distance in tokens, weighs token t: the loss of a sequence is
    sum(c_t l_t) / sum(c_t). Gradients flow through c too, as in the paper's code, unless `detach_weights`.
    mix, discount: the paper's lambda and gamma; at a discount of 0 all c are 1, and with a mix of 0 as well
    this is the mean loss of plain fine-tuning. Gives (P,); 0 where nothing is left to learn. A token that two
    sequences of a row share is mixed for both if either is trained on it.
    Raises ValueError unless both are between 0 and 1.
    """
    for name, value in {"mix": mix, "discount": discount}.items():
        if not 0 <= value <= 1:
            raise ValueError(f"ift: {name} is {value}, and has to be between 0 and 1")
    guesses = run(needs=("argmax",), gradients=False).reduced["argmax"].long()
    s = run(mixed(run, guesses, mix=mix))
    losses = -s.logprobs
    sums = propagated(losses * s.weights, s.path, run.position, discount=discount)
    if detach_weights:
        sums = sums.detach()
    count = len(s.paths)
    nats = _along(losses * s.weights, s.path, count) / _along(s.weights, s.path, count).clamp_min(TINY)
    same = (guesses == run.inputs.flatten()[run.place]).to(losses.dtype)
    guessed = _along(same * s.weights, s.path, count) / _along(s.weights, s.path, count).clamp_min(TINY)
    weighed = _along(sums * losses * s.weights, s.path, count)
    values = weighed / _along(sums * s.weights, s.path, count).clamp_min(TINY)
    return Loss(values, {"nats": nats, "guessed": guessed})


def mixed(run: Run, guesses: Tensor, *, mix: float) -> Tensor:
    """(B, T, H): the input embeddings, at each trained token (1 - mix) of its own and `mix` of its guess's.

    guesses: (N,) ids.
    """
    embeds = run.table(run.inputs)
    flat = embeds.flatten(0, 1).clone()
    flat[run.place] = (1 - mix) * flat[run.place] + mix * run.table(guesses).to(flat.dtype)
    return flat.view_as(embeds)


def propagated(losses: Tensor, path: Tensor, positions: Tensor, *, discount: float) -> Tensor:
    """Discounted sums of the losses to come along each path: (N,); all 1 at a discount of 0.

    c_t = sum over i >= t of discount ** (position of i - position of t) * losses_i. losses, path, positions:
    (N,), path by path in rising positions. Doubles in each round what a sum holds, so that log2(N) rounds do.

    >>> path, positions = torch.tensor([0, 0, 0]), torch.tensor([4, 5, 6])
    >>> propagated(torch.tensor([1.0, 2.0, 1.0]), path, positions, discount=0.5)
    tensor([2.2500, 2.5000, 1.0000])
    """
    if discount == 0:
        return torch.ones_like(losses)
    gaps = (positions[1:] - positions[:-1]).to(losses.dtype)
    near = torch.where(path[1:] == path[:-1], discount**gaps, 0.0)
    reach = torch.cat([near, near.new_zeros(min(1, len(losses)))])  # factor of the sum that begins `step` on
    sums, step = losses, 1
    while step < len(losses):
        ahead = torch.cat([sums[step:], sums.new_zeros(step)])
        sums = sums + reach * ahead
        reach = reach * torch.cat([reach[step:], reach.new_zeros(step)])
        step *= 2
    return sums


def _along(values: Tensor, path: Tensor, count: int) -> Tensor:
    """Sums of (N,) over each of `count` paths."""
    return values.new_zeros(count).index_add(0, path, values)
