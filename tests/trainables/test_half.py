"""Half fine-tuning: which half, drawn how, and that the other half stays."""

from random import Random

import pytest
import torch
from torch import nn

from turnsmith.data.batch import pad
from turnsmith.errors import ModelError
from turnsmith.models.score import Scoring
from turnsmith.testing import examples, model
from turnsmith.trainables.half import Half, halve
from turnsmith.trainables.install import Learner, install, learning

ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
FORWARD = ("mlp.up_proj", "mlp.gate_proj", "mlp.down_proj")
NORMS = ("input_layernorm", "post_attention_layernorm")
OUTSIDE = ("model.embed_tokens.weight", "model.norm.weight")


def llama(layers, bias=False):
    """The names of a Llama's parameters with their numbers of dimensions."""
    found = {OUTSIDE[0]: 2, OUTSIDE[1]: 1}
    for layer in range(layers):
        for part in (*ATTENTION, *FORWARD):
            found[f"model.layers.{layer}.{part}.weight"] = 2
            if bias:
                found[f"model.layers.{layer}.{part}.bias"] = 1
        found |= {f"model.layers.{layer}.{part}.weight": 1 for part in NORMS}
    return found


def chosen(mask, layer, parts):
    return [part for part in parts if mask[f"model.layers.{layer}.{part}.weight"]]


@pytest.mark.parametrize(("layers", "forward"), [(30, 45), (5, 7), (4, 6), (1, 1)])
def test_each_block_learns_two_of_four_one_or_two_of_three_and_one_of_two(layers, forward):
    """Feed-forward matrices that learn: 2 * floor(L / 2) + ceil(L / 2), e.g. 45 of 90 for 30 blocks."""
    mask = halve(llama(layers), Random(0))
    counts = [len(chosen(mask, layer, FORWARD)) for layer in range(layers)]
    assert all(len(chosen(mask, layer, ATTENTION)) == 2 for layer in range(layers))
    assert all(len(chosen(mask, layer, NORMS)) == 1 for layer in range(layers))
    assert counts.count(2) == layers // 2
    assert counts.count(1) == layers - layers // 2
    assert sum(counts) == forward


def test_what_is_outside_the_blocks_always_learns():
    mask = halve(llama(4), Random(0))
    assert all(mask[name] for name in OUTSIDE)


def test_a_tied_embedding_is_one_parameter_that_learns():
    whole = install(model(layers=4), Half, {}, seed=0)
    assert whole.get_output_embeddings().weight is whole.get_input_embeddings().weight
    assert "model.embed_tokens.weight" in learning(whole)


def test_a_bias_follows_its_matrix():
    mask = halve(llama(5, bias=True), Random(0))
    pairs = [(mask[name], mask[f"{name[:-4]}weight"]) for name in mask if name.endswith(".bias")]
    assert len(pairs) == 5 * 7
    assert all(bias == weight for bias, weight in pairs)
    assert {bias for bias, _ in pairs} == {True, False}


def test_the_same_seed_draws_the_same_half_and_another_a_different_one():
    assert halve(llama(8), Random(3)) == halve(llama(8), Random(3))
    assert halve(llama(8), Random(3)) != halve(llama(8), Random(4))


def test_every_matrix_and_norm_is_drawn_about_every_other_time():
    """200 draws: 100 +- 7 for a matrix; five standard deviations are 35."""
    masks = [halve(llama(4), Random(seed)) for seed in range(200)]
    inside = [name for name in masks[0] if "layers" in name]
    assert all(65 < sum(mask[name] for mask in masks) < 135 for name in inside)


def test_level_layer_takes_half_of_the_blocks_whole():
    mask = halve(llama(5), Random(0), "layer")
    learns = [{mask[name] for name in mask if f"layers.{layer}." in name} for layer in range(5)]
    assert all(len(one) == 1 for one in learns)
    assert sum(one == {True} for one in learns) == 2


def test_level_model_takes_half_of_all_matrices_and_of_all_norms():
    mask = halve(llama(5), Random(0), "model")
    inside = [name for name in mask if "layers" in name]
    assert sum(mask[name] for name in inside if "proj" in name) == 35 // 2
    assert sum(mask[name] for name in inside if "norm" in name) == 10 // 2


FUSED = {
    f"transformer.h.{layer}.{part}.weight": 2
    for layer in range(3)
    for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
}


def test_fused_attention_is_refused_with_a_way_out():
    with pytest.raises(ModelError, match=r"2 attention and 2 feed-forward.*use half: {level: model}"):
        halve(FUSED, Random(0))
    assert sum(halve(FUSED, Random(0), "model").values()) == 6


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ModelError, match="do not tell its blocks"):
        halve({"weight": 2, "bias": 1}, Random(0))


def test_names_within_experts_do_not_make_blocks_of_their_own():
    experts = {f"model.layers.0.mlp.experts.{n}.up_proj.weight": 2 for n in range(4)}
    with pytest.raises(ModelError, match="4 attention and 4 feed-forward"):
        halve({**experts, **{f"model.layers.0.{part}.weight": 2 for part in ATTENTION}}, Random(0))


def test_gradients_are_the_same_with_activation_checkpointing():
    """All that comes before a block may be frozen in it: its inputs still carry gradients."""
    found = []
    for checkpointing in (False, True):
        whole = model(layers=4)
        if checkpointing:
            whole.activation_checkpointing_enable({"use_reentrant": False})
        scoring = Scoring(install(whole, Half, {}, seed=1)).train()
        scoring(pad(examples(2))).logprobs.sum().backward()
        found.append({name: p.grad for name, p in learning(whole).items()})
    assert found[0].keys() == found[1].keys()
    assert all(found[0][name] is not None for name in found[0])
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name])


def test_it_is_drawn_once_for_a_stage():
    assert Learner(model(), Half, {}, seed=0).every == 0


def test_for_each_epoch_it_is_drawn_anew_and_the_first_is_as_installed():
    learner = Learner(model(layers=6), Half, {"resample": "epoch"}, seed=0)
    whole = learner.model
    first = set(learning(whole))
    learner.choose(1)
    second = set(learning(whole))
    learner.choose(0)
    assert set(learning(whole)) == first != second


def test_what_is_frozen_stays_in_its_dtype_and_what_learns_is_fp32():
    whole: nn.Module = install(model(layers=4).to(torch.bfloat16), Half, {}, seed=0)
    kinds = {p.requires_grad: p.dtype for p in whole.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
