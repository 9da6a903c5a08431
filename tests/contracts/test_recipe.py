"""The contract of recipes, over those that come with Turnsmith."""

import pytest

from turnsmith.recipes import FOLDER
from turnsmith.registry import Registry
from turnsmith.testing import RECIPE

REGISTRY = Registry()


@pytest.mark.parametrize("check", RECIPE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_contract(file, check):
    check(file, REGISTRY)
