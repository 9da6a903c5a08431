"""What gradients cost: by hand, and beside the operations that torch counts in a real backward pass."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from turnsmith.data.batch import pack
from turnsmith.errors import ModelError
from turnsmith.models import forest
from turnsmith.models.backward import costs
from turnsmith.models.cost import Work, training_flops
from turnsmith.models.score import Scoring
from turnsmith.testing import model, tokens
from turnsmith.trainables.install import install
from turnsmith.trainables.select import full
from turnsmith.types import Rendered

# The tiny model: hidden 32, inner 64, 320 tokens, four query heads and two key heads of 8.
H, INNER, VOCABULARY, KEYS = 32, 64, 320, 16
LENGTHS = (30, 20, 14)  # of one row; a third of each is trained
T = 64
S = 10 + 6 + 4
SEEN = sum(length * (length + 1) // 2 for length in LENGTHS)
WORK = Work(T, S, SEEN)
BLOCK = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"


def block(layer, *parts):
    return [f"model.layers.{layer}.{part}.weight" for part in parts]


def untied():
    made = model()
    made.config.tie_word_embeddings = False
    made.lm_head.weight = nn.Parameter(made.lm_head.weight.detach().clone())
    return made


def test_parameters_come_in_the_order_of_their_use_and_norms_before_what_they_feed():
    """A block's norms are registered behind its matrices and used before them."""
    found = costs(model(layers=1), WORK)
    attention = block(0, "input_layernorm", *BLOCK)
    forward = block(0, "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    assert found.names == (EMBEDDING, *attention, *forward, NORM)


def test_costs_of_one_block_by_hand():
    """Two operations for each weight and token; the gradient comes through the head to the last norm, through
    that to down_proj, through down_proj to gate and up, through both to their norm and so on."""
    found = costs(model(layers=1), WORK)
    by = dict(zip(found.names, zip(found.gradient, found.passing, strict=True), strict=True))
    scale, wide = 2 * T * H, 2 * T * H * INNER
    assert by[NORM] == (scale, 2 * S * H * VOCABULARY)
    (down,), (up,), (gate,) = (block(0, f"mlp.{name}_proj") for name in ("down", "up", "gate"))
    assert by[down] == (wide, scale)
    assert by[up] == (wide, wide)
    assert by[gate] == (wide, 0)
    between, first = block(0, "post_attention_layernorm", "input_layernorm")
    assert by[between] == (scale, 2 * wide)
    q, k, v, o = block(0, *BLOCK)
    assert by[o] == (2 * T * H * H, scale)
    assert by[v] == (2 * T * H * KEYS, 2 * T * H * H + 8 * SEEN * H)
    assert by[k] == (2 * T * H * KEYS, 0)
    assert by[q] == (2 * T * H * H, 0)
    assert by[first] == (scale, 2 * T * H * (H + 2 * KEYS))


def test_a_tied_embedding_is_counted_once_with_the_head_and_a_sum_over_the_tokens():
    found = costs(model(layers=1), WORK)
    assert found.names.count(EMBEDDING) == 1
    assert found.gradient[0] == 2 * S * H * VOCABULARY + T * H
    assert found.passing[0] == 2 * T * H  # through the first norm


def test_a_head_of_its_own_comes_last_and_nothing_has_to_be_passed_to_it():
    found = costs(untied(), WORK)
    assert found.names[-2:] == (NORM, "lm_head.weight")
    assert (found.gradient[-1], found.passing[-1]) == (2 * S * H * VOCABULARY, 0)
    assert found.passing[-2] == 2 * S * H * VOCABULARY
    assert found.gradient[0] == T * H


def test_a_bias_is_a_sum_over_the_tokens_and_nothing_is_passed_for_it():
    found = costs(model(bias=True), WORK)
    by = dict(zip(found.names, zip(found.gradient, found.passing, strict=True), strict=True))
    assert by["model.layers.1.mlp.down_proj.bias"] == (T * H, 2 * T * H)
    assert by["model.layers.1.mlp.down_proj.weight"] == (2 * T * H * INNER, 0)


def test_all_that_learns_takes_what_training_flops_says_but_for_scales_and_sums():
    """Five norms: forward, their input's gradient and their own, but the forward pass has no more of them."""
    found = costs(model(), WORK)
    small = 5 * 3 * 2 * T * H + T * H
    assert found.forward + found.total - small == training_flops(model(), T, S, SEEN)
    assert found.backward(found.names) == found.total


def test_nothing_below_the_first_that_learns_is_paid_for():
    found = costs(model(), WORK)
    assert found.backward([NORM]) == 2 * S * H * VOCABULARY + 2 * T * H
    both = found.backward([*block(1, "mlp.down_proj"), NORM])
    assert both == found.backward([NORM]) + 2 * T * H + 2 * T * H * INNER


# -------------------------------------------------------------------------------------- counted


def window():
    rng = np.random.default_rng(0)
    return [
        Rendered(f"made-{n}", {"text": (tokens(rng.integers(3, VOCABULARY, size).tolist(), size // 3),)})
        for n, size in enumerate(LENGTHS)
    ]


def added(total, first, second, *others, **options):
    return 2 * first[0] * first[1] * second[1]


def counted(whole, learns):
    """Operations of products, forward and backward, of a step in which these learn; of attention apart."""
    forest.attach(whole)
    install(whole, lambda whole, draw: dict.fromkeys(learns, True), {}, seed=0)
    scoring, batch = Scoring(whole).train(), pack(window())
    sums = {torch.ops.aten.addmm_: added}  # the head's own gradient is added up in place
    with FlopCounterMode(display=False, custom_mapping=sums) as counter:
        scores = scoring(batch, expected=-batch.weights)
        (-scores.logprobs * batch.weights).sum().backward()
    found = counter.get_flop_counts()["Global"]
    pairs = found.pop(torch.ops.aten.bmm)
    return sum(found.values()), pairs


def scales(found, learns):
    """Of the costs of a backward pass, those of norms, biases and sums: torch counts none of them."""
    first = min(found.names.index(name) for name in learns)
    behind = [name for name in found.names[first + 1 :] if "norm" in name]
    own = sum(2 * T * H for name in learns if "norm" in name)
    return own + 2 * T * H * len(behind) + T * H * (EMBEDDING in learns)


SELECTIONS = {
    "all": None,
    "a block": block(1, *BLOCK, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm"),
    "only the last": [NORM],
    "only a norm": block(1, "post_attention_layernorm"),
    "keys alone": block(0, "self_attn.k_proj"),
    "here and there": [*block(0, "self_attn.o_proj"), *block(1, "self_attn.v_proj", "mlp.up_proj")],
    "the embedding": [EMBEDDING],
}
COUNTED = pytest.mark.parametrize("learns", SELECTIONS.values(), ids=SELECTIONS)


@COUNTED
def test_the_products_of_linear_layers_are_exactly_those_that_are_counted(learns):
    found = costs(model(), WORK)
    learns = found.names if learns is None else learns
    linear, _ = counted(model(), learns)
    without = costs(model(), Work(T, S, 0))
    forward = without.forward - 5 * 2 * T * H
    assert linear == forward + without.backward(learns) - scales(found, learns)


@COUNTED
def test_attention_is_what_is_counted_but_for_what_is_recomputed_and_masked(learns):
    """The row is one block: each of its tokens is multiplied with all, in two products forward and five
    backward, where four for each pair that is seen are what has to be done."""
    found, without = (costs(model(), Work(T, S, seen)) for seen in (SEEN, 0))
    learns = found.names if learns is None else learns
    _, pairs = counted(model(), learns)
    forward, backward = found.forward - without.forward, found.backward(learns) - without.backward(learns)
    assert forward * T * T / SEEN + backward * 5 / 4 * T * T / SEEN == pairs


def test_a_long_row_is_counted_to_a_twentieth():
    """Hidden 256: attention is small beside the matrices, as it is in real models."""
    whole = model(hidden=256)
    found = costs(whole, WORK)
    every = found.backward(found.names) + found.forward
    assert every == pytest.approx(sum(counted(whole, found.names)), rel=0.05)


def test_a_module_that_is_not_used_has_no_known_cost():
    whole = model()
    whole.model.expert = nn.Linear(3, 3)
    with pytest.raises(ModelError, match=r"gradients of model\.expert cost is not known: it is used 0 times"):
        costs(whole, WORK)


def test_looking_at_the_order_leaves_no_trace():
    whole = install(model(dropout=0.5), full, {}, seed=0).train()
    before = torch.get_rng_state()
    costs(whole, WORK)
    assert whole.training
    assert torch.equal(before, torch.get_rng_state())
    assert not any(module._forward_hooks for module in whole.modules())
