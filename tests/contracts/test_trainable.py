"""The contract of trainables, over everything registered."""

import pytest

from turnsmith.registry import Registry
from turnsmith.testing import TRAINABLE

REGISTRY = Registry()


@pytest.mark.parametrize("check", TRAINABLE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", REGISTRY.entries("trainable"), ids=lambda entry: entry.name)
def test_contract(entry, check):
    check(REGISTRY.function("trainable", entry.name), REGISTRY.options("trainable", entry.name, {}))
