"""Places in a model: what is recorded is what stands there, an edit changes that alone, and nothing is
left."""

import copy

import pytest
import torch
from torch.nn import functional as F

from turnsmith.errors import ModelError
from turnsmith.models.sites import (
    Head,
    Place,
    chained,
    edit,
    outputs,
    put,
    put_everywhere,
    record,
    sites,
    taken,
)
from turnsmith.sample.lean import Lean
from turnsmith.testing import model

IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 5, 5, 7, 6]])


@pytest.fixture
def tiny():
    return model()


def logits(whole):
    with torch.no_grad():
        return whole(IDS).logits


def hooks(whole):
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in whole.modules())


def every(kind, layers=2):
    return [Place(kind, layer) for layer in range(layers)]


def test_a_model_with_grouped_queries_has_a_place_for_each_head_and_one_of_keys_for_each_group(tiny):
    places = sites(tiny, "probe")
    assert (len(places.layers), places.heads, places.groups, places.size) == (2, 4, 2, 8)
    assert places.every()[:5] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    assert [places.group(head) for head in range(4)] == [0, 0, 1, 1]


def test_what_is_recorded_are_the_projections_and_what_the_output_projection_reads(tiny):
    places = sites(tiny, "probe")
    kinds = ("output", "query", "key", "value")
    with record(places, [Place(kind, 0) for kind in kinds]) as found:
        logits(tiny)
    attention = tiny.model.layers[0].self_attn
    states = tiny.model.layers[0].input_layernorm(tiny.model.embed_tokens(IDS))
    for kind, name, units in (("query", "q_proj", 4), ("key", "k_proj", 2), ("value", "v_proj", 2)):
        wanted = attention.get_submodule(name)(states).view(2, 5, units, 8)
        torch.testing.assert_close(found[Place(kind, 0)], wanted, rtol=0, atol=0)
    # The first token sees itself alone, so that each head gives the value of its group.
    first = found[Place("output", 0)][:, 0]
    torch.testing.assert_close(first, found[Place("value", 0)][:, 0].repeat_interleave(2, 1))


def test_1_what_stood_there_put_in_again_changes_no_logit(tiny):
    before, places = logits(tiny), sites(tiny, "probe")
    wanted = [place for kind in ("output", "query", "key", "value") for place in every(kind)]
    with record(places, wanted) as found:
        logits(tiny)
    same = {place: put_everywhere(states, range(states.shape[2])) for place, states in found.items()}
    with edit(places, same):
        assert (logits(tiny) - before).abs().max() < 1e-5


def test_an_edit_changes_one_head_at_one_position_and_what_sees_it(tiny):
    before, places = logits(tiny), sites(tiny, "probe")
    at = torch.tensor([2, 3])
    with edit(places, {Place("output", 1): put(torch.full((1, 4, 8), 3.0), [1], at)}):
        after = logits(tiny)
    moved = (after - before).abs().amax(2) > 0
    assert moved.tolist() == [[False, False, True, False, False], [False, False, False, True, False]]


def test_a_change_of_a_group_of_values_reaches_all_its_heads_and_no_other(tiny):
    places = sites(tiny, "probe")
    with record(places, every("output")) as found:
        logits(tiny)
        before = found[Place("output", 0)]
        with edit(places, {Place("value", 0): put_everywhere(torch.zeros(2, 5, 2, 8), [1])}):
            logits(tiny)
        after = found[Place("output", 0)]
    assert torch.equal(after[:, :, :2], before[:, :, :2])
    assert not after[:, :, 2:].any()


def test_changes_in_a_chain_come_one_after_another():
    ones, at = torch.ones(1, 3, 2, 4), torch.tensor([1])
    first, second = put(torch.full((1, 2, 4), 5.0), [0, 1], at), put(torch.full((1, 2, 4), 7.0), [1], at)
    assert taken(chained(first, second)(ones), at)[0, :, 0].tolist() == [5.0, 7.0]
    assert ones.eq(1).all()


def test_nothing_is_left_behind_after_an_error_neither(tiny):
    before, places = logits(tiny), sites(tiny, "probe")

    def broken(states):
        raise RuntimeError("broken")

    with record(places, every("key")), edit(places, {Place("output", 1): broken}):
        assert hooks(tiny) == 3
        with pytest.raises(RuntimeError, match="broken"):
            logits(tiny)
    with pytest.raises(RuntimeError, match="broken"), edit(places, {Place("output", 1): broken}):
        logits(tiny)
    assert hooks(tiny) == 0
    assert torch.equal(logits(tiny), before)


def test_the_lean_forward_pass_is_not_used_while_something_is_watched(tiny):
    lean = Lean(tiny)
    assert not lean.watched()
    with record(sites(tiny, "probe"), every("output")):
        assert lean.watched()
    assert not lean.watched()


def test_heads_behind_an_adapter_are_found_and_recorded(tiny):
    from peft import LoraConfig, get_peft_model

    plain = sites(copy.deepcopy(tiny), "probe")
    wrapped = get_peft_model(tiny, LoraConfig(target_modules=["q_proj", "o_proj"], init_lora_weights=False))
    places = sites(wrapped, "probe")
    assert (places.heads, places.groups, places.size) == (plain.heads, plain.groups, plain.size)
    with record(places, every("query")) as found, torch.no_grad():
        wrapped(IDS)
    layer = wrapped.base_model.model.model.layers[0]
    states = layer.input_layernorm(wrapped.base_model.model.model.embed_tokens(IDS))
    torch.testing.assert_close(found[Place("query", 0)].flatten(2), layer.self_attn.q_proj(states))


def test_a_family_without_separate_projections_is_refused():
    from transformers import GPT2Config, GPT2LMHeadModel

    other = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16, n_positions=16))
    with pytest.raises(ModelError, match="probe: no layer of this model is called o_proj"):
        outputs(other, "probe")


def test_layers_that_are_not_alike_are_refused(tiny):
    attention = tiny.model.layers[1].self_attn
    attention.v_proj = torch.nn.Linear(32, 32, bias=False)
    with pytest.raises(ModelError, match="probe: not every attention layer of this model has q_proj, k_proj"):
        sites(tiny, "probe")


def test_the_output_of_a_head_is_a_slice_of_what_the_projection_reads(tiny):
    """Taking a head out by zeros is the projection without its columns."""
    places, layer = sites(tiny, "probe"), tiny.model.layers[1]
    head = Head(1, 2)
    zeros = put_everywhere(torch.zeros(2, 5, 4, 8), [head.head])
    found = {}
    hook = layer.self_attn.o_proj.register_forward_hook(
        lambda m, given, out: found.update(given=given[0], out=out)
    )
    with edit(places, {Place("output", 1): zeros}):
        logits(tiny)
    hook.remove()
    with record(places, [Place("output", 1)]) as states:
        logits(tiny)
    kept = torch.ones(32)
    kept[16:24] = 0  # 2 * 8 to 3 * 8
    wanted = F.linear(states[Place("output", 1)].flatten(2), layer.self_attn.o_proj.weight * kept)
    torch.testing.assert_close(found["out"], wanted)
