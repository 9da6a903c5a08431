"""Path patching on a model whose circuit is known, and one whose effects are worked out layer by layer."""

import pytest
import torch

from turnsmith.data.containers import Scene
from turnsmith.errors import DataError
from turnsmith.evaluation.probes.paths import GROUPS, arranged, drawn, effects, find, pairs, partners
from turnsmith.evaluation.probes.prompts import Probe
from turnsmith.models.networks.llama import llama
from turnsmith.models.sites import Head, Place
from turnsmith.seeds import stream
from turnsmith.testing.circuits import WORDS, subject

FETCHER, TRANSMITTER, READER = Head(1, 0), Head(0, 1), Head(0, 0)
SIZES = {"fetchers": 3, "transmitters": 3, "detectors": 3, "readers": 3}


@pytest.fixture
def drawn_at_random():
    """A model with random weights, some of whose heads share keys."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model, words = llama(layers=2, hidden=32, wide=48, heads=4, shared=2, words=WORDS, spread=0.4)
    one = subject(model.eval(), words)
    return Probe.of(one.scoring, one.renderer, "probe")


def test_the_circuit_of_the_written_model_is_the_one_that_was_written(probe, both):
    found = find(probe, both, SIZES, arranged("star"))
    assert found.circuit == {
        "fetchers": (FETCHER,),
        "transmitters": (TRANSMITTER,),
        "detectors": (),
        "readers": (READER,),
    }


def test_the_effects_of_its_heads_are_what_the_answer_loses_by_them(probe, both):
    """Whatever the fetcher, the transmitter or the reader is told of another scene, the answer is another
    thing, but where that is the same one; other heads do nothing."""
    found = find(probe, both, SIZES, arranged("star"))
    for group, head in (("fetchers", FETCHER), ("transmitters", TRANSMITTER), ("readers", READER)):
        assert -1 <= found.effects[group][head] < -0.5
        others = [score for one, score in found.effects[group].items() if one != head]
        assert max(map(abs, others)) < 1e-3


def test_readers_that_detectors_should_read_are_not_there_where_there_are_none(probe, both):
    assert find(probe, both, SIZES, GROUPS).circuit["readers"] == ()


def test_as_many_heads_are_kept_as_asked_for_the_strongest_first(drawn_at_random, scenes):
    both = pairs(drawn_at_random, scenes)
    found = find(drawn_at_random, both, {**SIZES, "fetchers": 2, "transmitters": 8})
    scores = found.effects["fetchers"]
    below = sorted((one for one in scores if scores[one] < 0), key=lambda one: scores[one])
    assert found.circuit["fetchers"] == tuple(below[:2])
    assert all(found.effects["transmitters"][one] < 0 for one in found.circuit["transmitters"])


def test_a_direct_effect_is_that_of_a_run_with_one_slice_exchanged_and_all_attention_held(
    drawn_at_random, scenes
):
    """Worked out by the layers themselves: the outputs of both layers' heads are those of the clean run, but
    for one slice at the last token."""
    probe = drawn_at_random
    both = pairs(probe, scenes)
    (pair,) = both
    found = effects(probe, both, "last", (), None)
    whole, last = probe.scoring.base.model, pair.clean.at["last"]
    rows, ids = torch.arange(len(last)), pair.clean.batch.inputs
    for sender in (Head(0, 3), Head(1, 2)):
        outputs = [pair.outputs[Place("output", layer)].clone() for layer in range(2)]
        theirs = pair.corrupt[Place("output", sender.layer)][rows, pair.other.at["last"], sender.head]
        outputs[sender.layer][rows, last, sender.head] = theirs
        with torch.no_grad():
            states = whole.embed_tokens(ids)
            for layer, given in zip(whole.layers, outputs, strict=True):
                states = states + layer.self_attn.o_proj(given.flatten(2))
                states = states + layer.mlp(layer.post_attention_layernorm(states))
            logits = probe.scoring.base.lm_head(whole.norm(states))[rows, last]
            p = logits.softmax(-1)[rows, pair.clean.batch.targets]
        wanted = ((p - pair.probability) / pair.probability).mean()
        torch.testing.assert_close(found[sender], float(wanted), rtol=1e-3, atol=1e-5)


def test_5_senders_above_their_receivers_or_beside_them_have_an_effect_of_exactly_0(drawn_at_random, scenes):
    both = pairs(drawn_at_random, scenes)
    for position, read_as in (("last", "query"), ("label", "value")):
        found = effects(drawn_at_random, both, position, [Head(1, 1)], read_as)
        assert [found[Head(1, head)] for head in range(4)] == [0.0] * 4
        assert all(found[Head(0, head)] for head in range(4))
        none = effects(drawn_at_random, both, position, [Head(0, 1)], read_as)
        assert set(none.values()) == {0.0}


def test_heads_that_share_values_receive_alike_and_queries_are_each_heads_own(drawn_at_random, scenes):
    both = pairs(drawn_at_random, scenes)

    def of(head, position, read_as):
        return effects(drawn_at_random, both, position, [Head(1, head)], read_as)

    assert of(0, "earlier", "value") == of(1, "earlier", "value") != of(2, "earlier", "value")
    assert of(0, "last", "query") != of(1, "last", "query")


def test_1_a_pair_of_the_same_prompt_has_no_effect_at_all(drawn_at_random, scenes):
    (pair,) = pairs(drawn_at_random, scenes)
    same = type(pair)(pair.clean, pair.outputs, pair.clean, pair.outputs, pair.probability)
    found = effects(drawn_at_random, [same], "last", (), None)
    assert max(map(abs, found.values())) < 1e-5


def test_nothing_is_left_in_the_model(probe, both):
    find(probe, both, SIZES)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in probe.scoring.modules())


def test_a_partner_asks_for_another_box_by_a_label_that_it_does_not_have(scenes):
    found = partners(scenes)
    assert found.keys() == scenes.keys()
    for id, other in found.items():
        assert other.index != scenes[id].index
        assert other.asked not in other.boxes
    assert partners(dict(reversed(scenes.items())))["scene-3"].asked


def test_scenes_that_all_ask_for_the_same_box_have_no_partners():
    same = {str(at): Scene(("book", "car"), ("A", "B"), 0, "A") for at in range(3)}
    with pytest.raises(DataError, match="example '0': every scene asks for box number 0"):
        partners(same)


def test_a_circuit_that_is_drawn_has_as_many_heads_in_each_group(probe):
    like = {
        "fetchers": (Head(0, 0), Head(0, 1)),
        "transmitters": (),
        "detectors": (),
        "readers": (Head(1, 1),),
    }
    circuits = [drawn(like, probe.sites.every(), stream("test", number)) for number in range(40)]
    assert all([len(one[name]) for name in like] == [2, 0, 0, 1] for one in circuits)
    assert all(len(set(one["fetchers"])) == 2 for one in circuits)
    assert {one["readers"][0] for one in circuits} == set(probe.sites.every())
