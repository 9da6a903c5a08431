"""The contract of objectives, over everything registered."""

import pytest

from turnsmith.registry import Registry
from turnsmith.testing import OBJECTIVE, method

REGISTRY = Registry()
ENTRIES = REGISTRY.entries("objective")


@pytest.mark.parametrize("check", OBJECTIVE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_contract(entry, check):
    if entry.names("parts") == ("labels",):
        pytest.skip(f"{entry.name} compares conversations of one part: its own test holds it to the contract")
    if entry.traits.get("network"):
        pytest.skip(f"{entry.name} asks a network of its own: its own test holds it to the contract with one")
    if "score" in entry.names("values"):
        pytest.skip(f"{entry.name} takes ratings on a scale: its own test holds it to the contract")
    check(method(entry.name, registry=REGISTRY), entry.traits.get("parts", ("text",)))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_objective_says_what_it_is_and_where_it_comes_from(entry):
    assert entry.summary
    assert entry.source
