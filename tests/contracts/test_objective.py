"""The contract of objectives, over everything registered."""

import functools

import pytest

from turnsmith.registry import Registry
from turnsmith.testing import contracts
from turnsmith.train.loop import Method

REGISTRY = Registry()
ENTRIES = REGISTRY.entries("objective")


def method(entry) -> Method:
    options = REGISTRY.options("objective", entry.name, {})
    function = functools.partial(REGISTRY.function("objective", entry.name), **options)
    traits = entry.traits
    return Method(function, traits["per"], bool(traits.get("reference")), tuple(traits.get("reads", ())))


@pytest.mark.parametrize("check", contracts.OBJECTIVE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_contract(entry, check):
    check(method(entry), entry.traits.get("parts", ("text",)))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_objective_says_what_it_is_and_where_it_comes_from(entry):
    assert entry.summary
    assert entry.source
