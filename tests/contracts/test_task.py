"""The contract of tasks, over everything registered, on tiny models."""

from pathlib import Path

import pytest

from turnsmith.registry import Registry
from turnsmith.testing import TASK, TinyBench, conversations, task

REGISTRY = Registry()
OPTIONS = {
    "abilities": {"every": 80},
    "code": {"file": str(Path(__file__).with_name("problems.jsonl")), "max_new": 8},
    "exact": {"on": "chats"},
    "heldout": {"on": "chats"},
    "margins": {"on": "pairs"},
    "replies": {"on": "chats", "count": 2, "max_new": 8},
    "stopping": {"count": 4},
}


def make(name):
    return task(name, OPTIONS.get(name), registry=REGISTRY)


@pytest.fixture(scope="module")
def bench():
    data = {"chats": conversations(3), "pairs": conversations(3, parts=("chosen", "rejected"))}
    return TinyBench(data, {"stopping": make("stopping")})


@pytest.mark.parametrize("check", TASK, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", REGISTRY.entries("task"), ids=lambda entry: entry.name)
def test_contract(bench, entry, check):
    check(make(entry.name), bench)
