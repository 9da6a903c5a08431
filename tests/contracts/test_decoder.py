"""The contract of decoders, over everything registered."""

from functools import partial

import pytest

from turnsmith.registry import Registry
from turnsmith.testing import DECODER, the_lead_speaks_alone

REGISTRY = Registry()
ENTRIES = REGISTRY.entries("decoder")
# Options by which greedy replies are the lead's.
ALONE = {
    "advantage": {"weight": 0.0},
    "contrast": {"cut": 1.0},
    "emulate": {"weight": 0.0},
    "proxy": {"alpha": 0.0},
    "trade": {"weight": 0.0},
}

SIZES = {"v": 1, "q1_target": "vocab", "q2_target": "vocab"}  # of heads


def filled(entry, given):
    options = REGISTRY.options("decoder", entry.name, given)
    return partial(REGISTRY.function("decoder", entry.name), **options)


def heads(entry):
    return {name: SIZES[name] for name in entry.names("heads")}


@pytest.mark.parametrize("check", DECODER, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_contract(entry, check):
    check(filled(entry, {}), entry.names("members"), heads(entry))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_with_the_others_taken_out_the_lead_speaks_alone(entry):
    the_lead_speaks_alone(filled(entry, ALONE[entry.name]), entry.names("members"), heads(entry))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_decoder_says_what_it_is_and_where_it_comes_from(entry):
    assert entry.summary
    assert entry.source
    assert len(entry.names("members")) + len(entry.names("heads")) > 1
