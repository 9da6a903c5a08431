"""What parts of a known circuit do alone."""

import pytest
import torch

from turnsmith.evaluation.probes.ablation import (
    Ablation,
    contribution,
    means,
    pruned,
    share,
    without,
    written,
)
from turnsmith.evaluation.probes.circuit import figures, incompleteness
from turnsmith.models.sites import Head, Place
from turnsmith.seeds import stream

FETCHER, TRANSMITTER, READER, IDLE = Head(1, 0), Head(0, 1), Head(0, 0), Head(1, 3)
CIRCUIT = {"fetchers": (FETCHER,), "transmitters": (TRANSMITTER,), "detectors": (), "readers": (READER,)}
NOTHING = dict.fromkeys(CIRCUIT, ())


@pytest.fixture
def ablation(probe, both):
    return Ablation(probe, means(both), [pair.clean for pair in both])


def accuracy(ablation, circuit):
    return float(ablation.right(circuit).mean())


def test_a_mean_is_that_of_what_a_head_gives_to_corrupted_prompts_at_the_position(both):
    (pair,) = both
    place, at = Place("output", 0), pair.other.at["earlier"]
    rows = [pair.corrupt[place][row, int(column)] for row, column in enumerate(at)]
    torch.testing.assert_close(means(both)["earlier", place][0], sum(rows) / len(rows))


def test_3_all_heads_give_the_accuracy_of_the_model_and_none_about_chance(probe, ablation):
    every = tuple(probe.sites.every())
    assert torch.equal(ablation.right(dict.fromkeys(CIRCUIT, every)), ablation.right_without({}))
    assert accuracy(ablation, dict.fromkeys(CIRCUIT, every)) == 1
    assert accuracy(ablation, NOTHING) <= 0.5  # there are four things


def test_the_circuit_alone_is_faithful_and_without_any_of_its_heads_it_is_not(ablation):
    assert accuracy(ablation, CIRCUIT) == 1
    for name, heads in CIRCUIT.items():
        if heads:
            assert accuracy(ablation, without(CIRCUIT, name, heads)) < 0.7


def test_a_head_counts_at_the_position_of_its_group_only(ablation):
    moved = {**CIRCUIT, "readers": (TRANSMITTER,), "transmitters": (READER,)}
    assert accuracy(ablation, moved) < 0.7
    assert written(CIRCUIT) == {"last": {FETCHER, TRANSMITTER}, "label": set(), "earlier": {READER}}


def test_a_part_of_a_circuit_is_the_strongest_of_each_group_rounded_up():
    heads = tuple(Head(0, at) for at in range(3))
    assert share({"fetchers": heads, "readers": heads[:1]}, 0.5) == {
        "fetchers": heads[:2],
        "readers": heads[:1],
    }


def test_pruning_drops_the_heads_that_add_nothing(ablation):
    wide = {**CIRCUIT, "fetchers": (IDLE, FETCHER), "transmitters": (TRANSMITTER, Head(1, 1))}
    assert pruned(ablation, wide, least=0.01, partners=0.3) == CIRCUIT
    assert pruned(ablation, wide, least=0.0, partners=0.3) == wide


def test_what_a_head_adds_is_judged_without_its_partners(ablation):
    """One partner of the transmitter is an idle head: 1 - F(C without the transmitter). The idle head's
    partner is the transmitter, without which nothing can be lost any more."""
    wide = {**CIRCUIT, "transmitters": (TRANSMITTER, Head(1, 1))}
    lost = 1 - accuracy(ablation, without(wide, "transmitters", (TRANSMITTER,)))
    assert contribution(ablation, wide, "transmitters", TRANSMITTER, 1) == pytest.approx(lost)
    assert contribution(ablation, wide, "transmitters", TRANSMITTER, 0) == pytest.approx(lost)
    assert contribution(ablation, wide, "transmitters", Head(1, 1), 1) == 0


def test_a_circuit_that_answers_nothing_is_not_pruned(ablation):
    idle = {**CIRCUIT, "fetchers": (IDLE,)}
    for prompts in ablation.prompts:
        prompts.batch.targets.fill_(ablation.probe.renderer.tokenizer.get_vocab()["A"])  # is never said
    assert accuracy(ablation, idle) == 0
    assert pruned(ablation, idle, least=0.5, partners=0.3) == idle


def test_a_circuit_that_is_complete_does_as_the_model_does_without_any_of_its_heads(ablation):
    assert incompleteness(ablation, CIRCUIT, stream("test")).abs().max() == 0
    # Without its transmitter the circuit is wrong where the whole model is right, unless that goes too.
    part = {**CIRCUIT, "transmitters": ()}
    lost = float((ablation.right_without({}) - ablation.right(part)).mean())
    assert 0 < lost <= float(incompleteness(ablation, part, stream("test")).mean()) + lost


def test_figures_are_of_the_circuit_its_parts_random_ones_and_none(ablation):
    found = {name: float(row.mean()) for name, row in figures(ablation, CIRCUIT).items()}
    assert found["whole"] == found["circuit"] == found["half"] == found["quarter"] == 1
    assert found["nothing"] <= 0.5
    assert found["random"] < 0.7
    assert found["above"] == pytest.approx(1 - found["random"])
