"""The contract of stages, over everything registered that needs no chat."""

import pytest

from turnsmith.registry import Registry
from turnsmith.testing import STAGE, stage, variety

REGISTRY = Registry()
ENTRIES = REGISTRY.entries("stage")
# For stages whose options have no defaults.
COUNTED = (
    "bandit",
    "head",
    "backwards",
    "facts",
    "kinds",
    "kinship",
    "longest",
    "orders",
    "provocations",
    "recall",
    "statements",
    "sums",
    "topics",
)
OPTIONS = {name: {"count": 3} for name in COUNTED}
OPTIONS["renamed"] = {"part": "text"}
OPTIONS["lake_walks"] = {"count": 3}
OPTIONS["lake_pair"] = {"other": "rd"}
OF_SEVERAL = (
    "best_and_worst",
    "best_answer",
    "each_answer",
    "every_pair",
    "standardised",
)  # which need an example with several answers
OPTIONS["value"] = {"name": "knowledge", "to": 0.0}


@pytest.mark.parametrize("check", STAGE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_contract(entry, check):
    if entry.traits.get("chats"):
        pytest.skip(f"{entry.name} asks models: its own test holds it to the contract with a chat")
    given = variety()
    if entry.name in OF_SEVERAL:
        given = [one for one in given if "replies" in one.parts]
    check(stage(entry.name, OPTIONS.get(entry.name), registry=REGISTRY), given)
