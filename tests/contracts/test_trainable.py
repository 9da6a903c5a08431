"""The contract of trainables, over everything registered."""

import pytest

from turnsmith.registry import REQUIRED, Registry
from turnsmith.testing import TRAINABLE

REGISTRY = Registry()
# Those that need to be told of another model are held to it by their own tests.
ENTRIES = [
    entry
    for entry in REGISTRY.entries("trainable")
    if not any(option.default == REQUIRED for option in entry.options)
]


@pytest.mark.parametrize("check", TRAINABLE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_contract(entry, check):
    check(REGISTRY.function("trainable", entry.name), REGISTRY.options("trainable", entry.name, {}))
