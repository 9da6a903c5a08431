"""The contract of stages, over everything registered that needs no chat."""

import pytest

from turnsmith.registry import Registry
from turnsmith.testing import STAGE, stage, variety

REGISTRY = Registry()
ENTRIES = REGISTRY.entries("stage")
# For stages whose options have no defaults.
COUNTED = (
    "head",
    "backwards",
    "facts",
    "kinds",
    "kinship",
    "longest",
    "orders",
    "recall",
    "statements",
    "sums",
)
OPTIONS = {name: {"count": 3} for name in COUNTED}
OPTIONS["renamed"] = {"part": "text"}
OPTIONS["lake_walks"] = {"count": 3}
OPTIONS["lake_pair"] = {"other": "rd"}
OPTIONS["reviews"] = {"users": 2, "items": 9, "aspects": ("a", "b", "c", "d"), "each": 4, "known": 3}
OPTIONS["value"] = {"name": "knowledge", "to": 0.0}


@pytest.mark.parametrize("check", STAGE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_contract(entry, check):
    if entry.traits.get("chats"):
        pytest.skip(f"{entry.name} asks models: its own test holds it to the contract with a chat")
    check(stage(entry.name, OPTIONS.get(entry.name), registry=REGISTRY), variety())
