"""Component masks on a model of which it is known what each head carries."""

import copy
from random import Random

import pytest
import torch

from turnsmith.data.containers import Scene
from turnsmith.errors import DataError
from turnsmith.evaluation.probes.circuit import scenes_of
from turnsmith.evaluation.probes.masks import HYPOTHESES, learnt, rights, swapped, swaps, triples
from turnsmith.models.sites import Head
from turnsmith.testing.circuits import examples

FETCHER, TRANSMITTER, READER, IDLE = Head(1, 0), Head(0, 1), Head(0, 0), Head(1, 3)


@pytest.fixture
def many():
    return scenes_of(examples(60, seed=1, least=2, most=3))


def batches(probe, scenes, hypothesis, position, layers=(0, 1)):
    return swaps(probe, triples(scenes, hypothesis, Random(0)), position, layers)


def scene(things, boxes, index):
    return Scene(tuple(things.split()), tuple(boxes), index, boxes[index])


def test_what_is_expected_of_a_base_by_each_hypothesis():
    base = scene("book car hat", "ABC", 0)
    far = scene("pen cup key", "DEF", 1)  # asks for box number 1, by a label that the base has not
    near = scene("pen cup key", "CDB", 2)  # asks for B, number 2; B is number 1 of the base

    def expected(source, hypothesis):
        return triples({"base": base, "source": source}, hypothesis, Random(0))["base"].expected

    assert expected(far, "position") == "car"
    assert expected(far, "thing") == "cup"
    assert expected(near, "label") == "car"
    assert expected(near, "thing") == "key"
    with pytest.raises(DataError):
        expected(far, "label")
    with pytest.raises(KeyError):  # its label is in the base, so that both hypotheses might be right
        expected(near, "position")


def test_no_hypothesis_expects_what_is_right_for_the_base_or_the_same_as_another(many):
    for hypothesis in HYPOTHESES:
        for base, source, due in triples(many, hypothesis, Random(0)).values():
            place = base.boxes.index(source.asked) if source.asked in base.boxes else None
            every = {
                "position": base.things[source.index],
                "thing": source.answer,
                "label": None if place is None else base.things[place],
            }
            assert due == every[hypothesis] != base.answer
            assert [name for name, one in every.items() if one == due] == [hypothesis]


def test_scenes_among_which_nothing_can_be_told_apart_are_refused():
    same = {str(at): scene("book car", "AB", at % 2) for at in range(4)}
    with pytest.raises(DataError, match="DCM: no two of 4 scenes differ as the hypothesis 'thing' needs"):
        triples(same, "thing", Random(0))


@pytest.mark.parametrize(
    ("head", "position", "carries"),
    [(FETCHER, "last", "thing"), (TRANSMITTER, "last", "label"), (READER, "earlier", "thing")],
)
def test_a_head_that_is_swapped_brings_what_it_carries_and_nothing_else(probe, many, head, position, carries):
    for hypothesis in HYPOTHESES:
        found = batches(probe, many, hypothesis, position)
        came = rights(probe, found, [head], torch.zeros(1), position)
        assert came.mean() == 1 if hypothesis == carries else came.mean() < 0.7, hypothesis
        assert rights(probe, found, [head], torch.ones(1), position).sum() == 0


def test_the_mask_finds_the_head_that_carries_and_leaves_the_others(probe, many):
    found = batches(probe, many, "thing", "last")
    came = learnt(probe, [IDLE, FETCHER], "last", found, found, epochs=12)
    assert came.mask.tolist() == [1, 0]
    assert came.rate == 1


def test_a_hypothesis_that_is_wrong_swaps_none_that_breaks_the_answer_for_nothing(probe, many):
    found = batches(probe, many, "position", "last")
    assert learnt(probe, [FETCHER], "last", found, found, epochs=3).rate == 0


def test_of_masks_that_are_as_good_the_one_that_swaps_more_heads_is_kept(probe, many):
    """The idle head changes nothing: only the penalty, which is turned round here, moves its mask."""
    found = batches(probe, many, "thing", "last")
    came = learnt(probe, [FETCHER, IDLE], "last", found, found, penalty=-100.0, epochs=12)
    assert came.mask.tolist() == [0, 0]
    assert came.rate == 1


def test_4_a_huge_penalty_leaves_every_head_and_the_rate_as_it_was(probe, many):
    found = batches(probe, many, "thing", "last")
    came = learnt(probe, [FETCHER, TRANSMITTER], "last", found, found, penalty=1e6, epochs=5)
    assert came.mask.tolist() == [1, 1]
    assert came.rate == 0
    assert all(one.eq(1).all() for one in came.steps)


def test_4_the_mask_stays_between_0_and_1_and_moves_by_the_rate_at_first(probe, many):
    found = batches(probe, many, "thing", "last")
    steps = learnt(probe, [FETCHER, TRANSMITTER], "last", found, found, lr=0.3, epochs=8).steps
    assert len(steps) == 8 * len(found)
    assert all(((one >= 0) & (one <= 1)).all() for one in steps)
    assert steps[0][0] == pytest.approx(0.7, abs=1e-4)  # Adam's first step is its rate
    assert any(one[0] == 0 for one in steps)


def test_4_gradients_reach_the_mask_alone_and_no_weight_changes(probe, many):
    before = copy.deepcopy(probe.scoring.state_dict())
    found = batches(probe, many, "thing", "last")
    learnt(probe, [FETCHER, TRANSMITTER], "last", found, found, epochs=2)
    assert all(one.grad is None for one in probe.scoring.parameters())
    assert all(torch.equal(one, before[name]) for name, one in probe.scoring.state_dict().items())


def test_half_a_mask_is_half_of_both(probe, many):
    """w * base + (1 - w) * source, read off what the projection is given."""
    (found, *_) = batches(probe, many, "thing", "last")
    seen = []
    layer = probe.sites.layers[1].get_submodule("o_proj")
    for mask in (1.0, 0.0, 0.5):
        hook = layer.register_forward_hook(lambda module, given, out: seen.append(given[0].detach()))
        swapped(probe, found, [FETCHER], torch.tensor([mask]), "last")
        hook.remove()
    torch.testing.assert_close(seen[2], (seen[0] + seen[1]) / 2)
    assert not torch.equal(seen[0], seen[1])
