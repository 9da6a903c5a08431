"""The contract of agents, over everything registered that needs no chat."""

import pytest

from turnsmith.registry import Registry
from turnsmith.testing import AGENT, agent, chat

REGISTRY = Registry()
OPTIONS = {  # for agents whose options have no defaults
    "rewritten": {"rules": {"which": "this"}},
    "seeker": {"aspects": ("hoppy", "sour")},
}
TOLD = {"customer": "tea", "seeker": "i42 hoppy"}  # what the system text says of agents that play somebody


@pytest.mark.parametrize("check", AGENT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", REGISTRY.entries("agent"), ids=lambda entry: entry.name)
def test_contract(entry, check):
    if entry.traits.get("chats") or entry.traits.get("models"):
        pytest.skip(f"{entry.name} asks models: its own test holds it to the contract with a chat")
    told = TOLD.get(entry.name, "You are Ann.")
    said = [["u: Hello"], ["a: Hi", "u: which?"], ["a: Hi", "u: tea", "a: yes", "u: And?"]]
    conversations = [chat(f"s: {told}", *one) for one in said]
    check(agent(entry.name, OPTIONS.get(entry.name), registry=REGISTRY), conversations)
