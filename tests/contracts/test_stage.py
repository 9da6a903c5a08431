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
    "opinions",
    "orders",
    "recall",
    "statements",
    "sums",
)
OPTIONS = {name: {"count": 3} for name in COUNTED}
OF_CLASSES = ("labelled", "mislabelled")
OPTIONS["few"] = {"count": 3}
OPTIONS["renamed"] = {"part": "text"}
OPTIONS["lake_walks"] = {"count": 3}
OPTIONS["lake_pair"] = {"other": "rd"}
OPTIONS["value"] = {"name": "knowledge", "to": 0.0}


@pytest.mark.parametrize("check", STAGE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_contract(entry, check):
    if entry.traits.get("chats") or entry.traits.get("scorers"):
        pytest.skip(f"{entry.name} asks models: its own test holds it to the contract with a chat")
    if entry.name in OF_CLASSES:
        pytest.skip(f"{entry.name} takes texts with classes: its own test holds it to the contract")
    check(stage(entry.name, OPTIONS.get(entry.name), registry=REGISTRY), variety())
