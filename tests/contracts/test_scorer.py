"""The contract of scorers, over everything registered that needs no model."""

from dataclasses import replace

import pytest

from turnsmith.registry import Registry
from turnsmith.testing import SCORER, conversations, scorer
from turnsmith.types import Conversation

REGISTRY = Registry()
OPTIONS = {"bump": {"peak": 70}}  # for scorers whose options have no defaults
PACKAGED = ("profanity",)
# What scorers look for in an example's metadata.
PROFILE = {"profile": "Ice, Hot, Fun"}
META = {"served": {"wish": "tea"}, "suits": PROFILE, "inquires": PROFILE}


@pytest.mark.parametrize("check", SCORER, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", REGISTRY.entries("scorer"), ids=lambda entry: entry.name)
def test_contract(entry, check):
    if entry.traits.get("chats") or entry.traits.get("models"):
        pytest.skip(f"{entry.name} asks models: its own test holds it to the contract with one")
    if entry.name in PACKAGED:
        pytest.skip(f"{entry.name} reads a package: its own test holds it to the contract without one")
    examples = [replace(one, meta={**one.meta, **META.get(entry.name, {})}) for one in conversations(4)]
    said = [drawn(one.parts["text"]) for one in examples]
    check(scorer(entry.name, OPTIONS.get(entry.name), registry=REGISTRY), said, examples)


def drawn(conversation):
    """As if its last message had been sampled."""
    *earlier, last = conversation.messages
    return Conversation((*earlier, replace(last, ids=tuple(range(len(last.content))))))
